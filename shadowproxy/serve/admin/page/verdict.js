// What the standing verdict says of each shadow. It is asked for apart from the overview: each answer is a report.

const ASKED_EVERY = 10000; // ms

const CHIPS = { pass: "pass", fail: "fail", inconclusive: "inconclusive", no_data: "no-data" };

let standing = null; // until it is known
let askedAt = 0;

function verdictPart(shadow) {
  const part = {
    word: h("span", { class: "chip no-data" }, "NO DATA"),
    sentence: h("p", {}, "\u00a0"),
    about: h("p", { class: "soft" }, "\u00a0"),
    checks: h("ul", { class: "plain" }),
    shown: "",
    again: h("button", { type: "button" }, "New candidate"),
  };
  part.again.setAttribute("aria-label", visible(`Reset the verdict on ${shadow.name}`));
  part.again.addEventListener("click", async () => {
    const path = `verdict/reset?shadow=${encodeURIComponent(shadow.name)}`;
    await act(part.again, `The verdict on ${shadow.name} starts over: only requests from now on count.`, "POST", path);
    await askVerdicts();
  });
  part.element = h(
    "section",
    { class: "verdict" },
    h("h4", {}, "Verdict ", part.word),
    part.sentence,
    part.about,
    h("details", {}, h("summary", {}, "Checks"), part.checks),
    h("div", { class: "controls left" }, part.again),
  );
  return part;
}

function showVerdict(part, shadow) {
  const found = standing?.shadows[shadow.name];
  part.element.hidden = standing !== null && !found; // the control has none
  if (!found) return;
  put(part.word, found.headline);
  name(part.word, `chip ${CHIPS[found.verdict]}`);
  put(part.sentence, found.sentence ?? "");
  const last = found.last ? `, the last at ${clock(found.last)}` : "";
  const notes = standing.notes.map((note) => `; ${note}`).join("");
  put(part.about, `${count(found.n)} requests since ${found.since.replace("T", " ").replace("Z", " UTC")}${last}${notes}`);
  const lines = found.checks.map((check) => [`${check.check}: ${check.result.replace("_", " ")}`, check.says ?? ""]);
  if (part.shown === JSON.stringify(lines)) return;
  part.shown = JSON.stringify(lines);
  part.checks.replaceChildren(...lines.map(([word, says]) => h("li", {}, h("b", {}, word), says && ` – ${says}`)));
}

/** Ask for the verdicts and show them. What cannot be known now is not shown. */
async function askVerdicts() {
  askedAt = Date.now();
  try {
    standing = await (await request("GET", "verdict")).json();
  } catch {
    standing = { shadows: {}, notes: [] };
  }
  for (const { part } of cards.values()) showVerdict(part.verdict, part.shadow);
}

function showVerdicts() {
  if (Date.now() - askedAt >= ASKED_EVERY) askVerdicts();
}
