// The latest differences, both answers side by side.

const SHOWN = 12; // differences
const LONGEST_BODY = 20000; // characters of a body that are laid out

let seen = -1; // mismatches counted when the list was last loaded
let earliest = 0; // when it may be loaded again
let loading = false;

const mismatches = (told) => told.shadows.reduce((sum, shadow) => sum + (shadow.verdicts.mismatch ?? 0), 0);

/** JSON with its numbers as they were sent, 1.10 and all, where the browser can keep them. */
function parsed(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && JSON.rawJSON && context?.source && String(value) !== context.source ? JSON.rawJSON(context.source) : value,
  );
}

function oneLine(value, longest) {
  const text = visible(JSON.stringify(value));
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`;
}

/** What one side of a difference says. A log that leaves bodies out names the place alone. */
function word(each, arm, longest) {
  if (each.kind === (arm === "live" ? "extra" : "missing")) return "absent";
  return arm in each ? oneLine(each[arm], longest) : "not in the log";
}

/** What of a body is in the log, laid out. */
function bodyOf(leg) {
  let text;
  if ("body" in leg) text = JSON.stringify(leg.body, null, 2);
  else if ("body_text" in leg) text = leg.body_text;
  else if ("body_base64" in leg) text = `Not text, in Base64:\n${leg.body_base64}`;
  else if (leg.body_redacted) return `Withheld: ${leg.body_redacted}`;
  else if (leg.body_bytes) return `${count(leg.body_bytes)} bytes, not in the log`;
  else return "No body";
  if (text.length > LONGEST_BODY) text = `${text.slice(0, LONGEST_BODY)}…\n(longer: shadowproxy show has it whole)`;
  return leg.body_truncated ? `${text}\n(cut: it has ${count(leg.body_bytes)} bytes)` : text;
}

function side(title, leg) {
  const told = `${leg.status ?? leg.outcome} in ${ms(leg.total_ms)} ms`;
  return h("div", {}, h("h3", {}, title), h("p", { class: "soft" }, told), h("pre", { tabindex: "0" }, bodyOf(leg)));
}

function difference(record, shadow) {
  const leg = record.shadows[shadow];
  const differences = leg.differences ?? [];
  const [first] = differences;
  const { method, path, query } = record.request;
  const target = `${method} ${path}${query ? `?${query}` : ""}`;
  const short = first ? `${first.path || "the whole answer"}: live ${word(first, "live", 40)}, shadow ${word(first, "shadow", 40)}` : (leg.why ?? "");
  const line = [h("code", {}, clock(record.at)), ` ${target.length > 120 ? `${target.slice(0, 119)}…` : target} `, h("b", {}, shadow), ` ${short}`];
  const details = h("details", {}, h("summary", {}, ...line));
  details.addEventListener(
    "toggle",
    () => {
      const cells = (each) => [h("th", { scope: "row" }, h("code", {}, each.path || "(the whole answer)")), h("td", {}, each.kind), ...["live", "shadow"].map((arm) => h("td", {}, h("code", {}, word(each, arm, 200))))];
      const head = h("thead", {}, h("tr", {}, ...["Place", "how", "live", "shadow"].map((each) => h("th", { scope: "col" }, each))));
      const table = h("table", { class: "wide" }, head, h("tbody", {}, ...differences.slice(0, 50).map((each) => h("tr", {}, ...cells(each)))));
      details.append(
        h("p", { class: "soft" }, "Request ID ", h("code", {}, record.id)),
        differences.length ? h("div", { class: "scroll" }, table) : h("p", {}, leg.why ?? ""),
        h("div", { class: "pair" }, side("live", record.live), side(shadow, leg)),
        h("h3", {}, "The request"),
        h("pre", { tabindex: "0" }, `${target}\n\n${bodyOf(record.request)}`),
      );
    },
    { once: true },
  );
  return h("li", {}, details);
}

/** Whether somebody reads the list: what is read must not move. */
const reading = () => $("differences").querySelector("details[open]") !== null || $("differences").contains(document.activeElement);

async function loadDifferences(counted) {
  loading = true;
  const begun = Date.now();
  try {
    const which = $("which").value;
    const only = which ? `&shadow=${encodeURIComponent(which)}` : "";
    const text = await (await ask("GET", `exchanges?verdict=mismatch&limit=${SHOWN}${only}`)).text();
    const records = parsed(text).exchanges;
    const found = records.flatMap((record) =>
      Object.keys(record.shadows)
        .filter((shadow) => record.shadows[shadow].verdict === "mismatch" && (!which || shadow === which))
        .map((shadow) => difference(record, shadow)),
    );
    $("differences").replaceChildren(...found.slice(0, SHOWN));
    $("newer").disabled = true;
    seen = counted;
    put($("nothing"), found.length ? "The latest first. shadowproxy show LOG ID shows one whole." : "None seen yet. Where the answers differ, both stand here side by side.");
  } catch (error) {
    put($("nothing"), `Cannot be read: ${error.message}`);
  } finally {
    // Bodies may be long, and the sidecar has better to do: the slower the answer, the rarer the question.
    earliest = Date.now() + Math.max(3000, 20 * (Date.now() - begun));
    loading = false;
  }
}

function showDifferences(told) {
  const counted = mismatches(told);
  if (counted === seen || loading || Date.now() < earliest) return;
  if (reading()) $("newer").disabled = false;
  else loadDifferences(counted);
}
