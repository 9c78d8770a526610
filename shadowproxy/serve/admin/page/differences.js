// The latest differences, both answers side by side.

const SHOWN = 12; // differences
const PLACES = 50; // of one answer, at most
const LONGEST_BODY = 20000; // characters of a body that are laid out

let seen = -1; // mismatches counted when the list was last loaded
let earliest = 0; // when it may be loaded again
let loads = 0; // how many were begun: if two are under way, the later one counts

const mismatches = (overview) => overview.shadows.reduce((sum, shadow) => sum + (shadow.verdicts.mismatch ?? 0), 0);

/** JSON with its numbers as they were sent, such as 1.10, where the browser can keep them. */
function parsed(text) {
  const exact = (value, source) => (source && JSON.rawJSON && String(value) !== source ? JSON.rawJSON(source) : value);
  return JSON.parse(text, (_, value, context) => (typeof value === "number" ? exact(value, context?.source) : value));
}

/** A line of an answer: what differs in it is marked, and the line ends with a word for it. */
function lineOf([before, differing, after], differs) {
  if (!differs) return `${before}\n`;
  const marked = differing ? [h("mark", {}, differing)] : [];
  return h("span", {}, before, ...marked, after, h("span", { class: "sign" }, "  ← differs"), "\n");
}

/** What both answers say, line by line; the sidecar reads them. */
async function answersOf(record, shadow) {
  const path = `exchanges/${encodeURIComponent(record.record)}/answers`;
  const rows = (await (await requestWithToken("GET", path)).json()).shadows[shadow];
  return ["live", "shadow"].map((arm) => rows.map((row) => lineOf(row[arm], row.differs && row[arm].join("") !== "")));
}

/** Show what the answers say in their two places; where that cannot be had, the bodies as they were sent. */
async function showAnswers(pair, record, shadow) {
  const leg = record.shadows[shadow];
  try {
    const sides = await answersOf(record, shadow);
    sides.forEach((lines, at) => pair.children[at].lastChild.replaceChildren(...lines));
  } catch (error) {
    const why = `What it says cannot be had (${error.message}). As it was sent:\n\n`;
    [record.live, leg].forEach((each, at) => put(pair.children[at].lastChild, `${why}${bodyOf(each)}`));
  }
}

/** Both bodies as they were sent, laid out when it first opens. */
function asSent(record, shadow) {
  const details = h("details", {}, h("summary", {}, "As sent"));
  const both = () => [["live", record.live], [shadow, record.shadows[shadow]]].map(([title, leg]) => side(title, leg, bodyOf(leg)));
  details.addEventListener("toggle", () => details.append(h("div", { class: "pair" }, ...both())), { once: true });
  return details;
}

/** What a text shows of a value in `longest` characters, from a little before its character number `from` on. */
const cutAt = (text, from, longest) => cut(from > longest / 2 ? `…${text.slice(from - longest / 4)}` : text, longest);

/** Both sides of a difference in few words, cut where they differ. */
function inFewWords(each) {
  const [live, shadow] = ["live", "shadow"].map((arm) => word(each, arm, 10000));
  let from = 0;
  while (from < live.length && live[from] === shadow[from]) from += 1;
  return `live ${cutAt(live, from, 40)}, shadow ${cutAt(shadow, from, 40)}`;
}

/** One side's value of a difference. A log without bodies has only its place. */
function word(each, arm, longest) {
  if (each.kind === (arm === "live" ? "extra" : "missing")) return "absent";
  if (each.kind === "failed" && each[arm] === null) return "an answer";
  return arm in each ? cut(visible(JSON.stringify(each[arm])), longest) : "not in the log";
}

/** The part of a body that is in the log, laid out. */
function bodyOf(leg) {
  let text;
  if ("body" in leg) text = JSON.stringify(leg.body, null, 2);
  else if ("body_text" in leg) text = leg.body_text;
  else if ("body_base64" in leg) text = `${leg.format ? visible(leg.format) : "Not text"}, in Base64:\n${leg.body_base64}`;
  else if (leg.body_redacted) return `Withheld: ${leg.body_redacted}`;
  else if (leg.body_bytes) return `${count(leg.body_bytes)} bytes, not in the log`;
  else return "No body";
  if (text.length > LONGEST_BODY) text = `${cut(text, LONGEST_BODY)}\n(longer: shadowproxy show has all of it)`;
  return leg.body_truncated ? `${text}\n(cut: it has ${count(leg.body_bytes)} bytes)` : text;
}

function side(title, leg, text) {
  const failed = leg.failed ? `, failed: ${cut(visible(leg.failed), 200)}` : "";
  const places = (leg.translated ?? []).map((each) => cut(visible(each.in), 60));
  const own = places.length ? `, sent its own ID in ${[...new Set(places)].slice(0, 4).join(", ")}` : "";
  const left = leg.caller_left ? ", the caller left after the answer's end" : "";
  const read = [leg.format, ...(leg.warnings ?? [])].map((each) => (each ? `, ${cut(visible(each), 200)}` : "")).join("");
  const result = `${leg.status ?? leg.outcome} in ${ms(leg.total_ms)} ms${read}${failed}${left}${own}`;
  return h("div", {}, h("h3", {}, title), h("p", { class: "soft" }, result), h("pre", { tabindex: "0" }, text));
}

const cut = (text, longest) => (text.length <= longest ? text : `${text.slice(0, longest - 1)}…`);

/** Where two answers differ; in both, if the shadow's place is another. */
function placeOf(each) {
  const place = each.path || "the whole answer";
  const beside = each.shadow_path ?? each.path;
  return beside === each.path ? place : `${place} (shadow: ${beside || "the whole answer"})`;
}

/** One line for each place where the two differ. */
function places(differences) {
  const rows = differences
    .slice(0, PLACES)
    .map((each) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("code", {}, placeOf(each))),
        h("td", {}, each.kind),
        ...["live", "shadow"].map((arm) => h("td", { "data-arm": `${arm}: ` }, h("code", {}, word(each, arm, 200)))),
      ),
    );
  const titles = heads(["Place", "how", "live", "shadow"], false);
  return h("div", { class: "scroll" }, h("table", { class: "wide" }, titles, h("tbody", {}, ...rows)));
}

function inShort(leg) {
  if (!leg.differences) return leg.why ?? "";
  const [first] = leg.differences;
  return `${placeOf(first)}: ${inFewWords(first)}`;
}

/** One record and one of its shadows, as a line that opens. Its content is built when it first opens. */
function difference(record, shadow) {
  const leg = record.shadows[shadow];
  const { method, path, query } = record.request;
  const target = `${method} ${path}${query ? `?${query}` : ""}`;
  const line = [h("code", {}, clock(record.at)), ` ${cut(target, 120)} `, h("b", {}, shadow), ` ${inShort(leg)}`];
  const details = h("details", {}, h("summary", {}, ...line));
  details.addEventListener(
    "toggle",
    () => {
      const pair = h("div", { class: "pair" }, side("live", record.live, "…"), side(shadow, leg, "…"));
      details.append(
        h("p", { class: "soft" }, "Request ID ", h("code", {}, record.id)),
        leg.differences ? places(leg.differences) : h("p", {}, leg.why ?? ""),
        pair,
        asSent(record, shadow),
        h("h3", {}, "The request"),
        h("pre", { tabindex: "0" }, `${target}\n\n${bodyOf(record.request)}`),
      );
      showAnswers(pair, record, shadow);
    },
    { once: true },
  );
  return h("li", {}, details);
}

/** Whether somebody reads the list: it must not move then. */
function reading() {
  const list = $("differences");
  return list.querySelector("details[open]") !== null || list.contains(document.activeElement);
}

async function loadDifferences(counted) {
  loads += 1;
  const own = loads;
  const begun = Date.now();
  earliest = Infinity; // until this one is there
  try {
    const which = $("which").value;
    const only = which ? `&shadow=${encodeURIComponent(which)}` : "";
    const text = await (await request("GET", `exchanges?verdict=mismatch&limit=${SHOWN}${only}`)).text();
    if (own !== loads) return;
    const records = parsed(text).exchanges;
    const found = records.flatMap((record) =>
      Object.keys(record.shadows)
        .filter((shadow) => record.shadows[shadow].verdict === "mismatch" && (!which || shadow === which))
        .map((shadow) => difference(record, shadow)),
    );
    $("differences").replaceChildren(...found.slice(0, SHOWN));
    $("newer").disabled = true;
    seen = counted;
    const some = "The latest first. shadowproxy show LOG ID shows one in full.";
    put($("nothing"), found.length ? some : "None seen yet. Answers that differ are shown here side by side.");
  } catch (error) {
    put($("nothing"), `The differences cannot be read: ${error.message}`);
  } finally {
    // Bodies may be long: the slower the response, the rarer the requests.
    earliest = Date.now() + Math.max(3000, 20 * (Date.now() - begun));
  }
}

function showDifferences(overview) {
  const counted = mismatches(overview);
  if (counted === seen || Date.now() < earliest) return;
  if (reading()) $("newer").disabled = false;
  else loadDifferences(counted);
}
