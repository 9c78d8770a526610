// How each shadow answers, and the controls that steer it.

const FAILED = ["timeout", "connect_error", "tls_error", "protocol_error", "incomplete", "answer_oversize"];
const SHED = ["oversize", "lane_full", "overload", "breaker_open", "shutdown"];
const HELD = ["paused", "budget_spent", "unusable", "state_unknown"];
const VERDICTS = ["match", "mismatch", "ignored", "incomparable"];

const cards = new Map();

/** A shadow's state in a word or two, and how good that is. */
function stateOf(shadow, pausedAll) {
  if (shadow.paused) return ["PAUSED", "inconclusive"];
  if (pausedAll) return ["PAUSED WITH ALL", "inconclusive"];
  if (shadow.unusable) return ["UNUSABLE", "fail"];
  if (shadow.breaker !== "closed") return [shadow.breaker === "open" ? "BREAKER OPEN" : "BREAKER PROBING", "fail"];
  const { requests, tokens, cost, seconds_left: left } = shadow.budget ?? {};
  if ([requests, tokens, cost].some((part) => part && part.used >= part.allowed) || (!none(left) && left <= 0))
    return ["BUDGET SPENT", "inconclusive"];
  return shadow.percent > 0 ? [`MIRRORING ${shadow.percent}\u00a0%`, "pass"] : ["OFF, 0\u00a0%", "inconclusive"];
}

function shadowCard(shadow) {
  const id = `shadow-${cards.size}`;
  const path = `shadows/${encodeURIComponent(shadow.name)}`;
  const answering = spark(["shadow"]);
  const latency = spark(["live", "shadow"]);
  const part = {
    state: h("span", { class: "chip" }),
    url: h("p", { class: "soft url" }),
    percent: h("input", { type: "number", min: "0", max: "100", step: "any", required: "", id: `${id}-percent` }),
    set: h("button", { type: "submit" }, "Set"),
    pause: h("button", { type: "button" }, "Pause"),
    rate: h("p", { class: "big" }),
    outcomes: h("ul", { class: "counts" }),
    outcomeBar: strip("share"),
    lane: h("p", { class: "soft" }),
    ramp: h("p", { class: "ramp" }),
    verdict: verdictPart(shadow),
    latencies: h("tbody"),
    agreement: h("p", { class: "big" }),
    around: h("p", { class: "soft" }),
    interval: strip("interval"),
    begins: h("span"),
    verdicts: h("ul", { class: "counts" }),
    answering,
    latency,
    shadow,
  };
  const form = h("form", {}, h("label", { for: `${id}-percent` }, "Percent"), part.percent, part.set);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const percent = Number(part.percent.value);
    part.typed = false;
    act(part.set, `${shadow.name} gets ${percent} % of requests.`, "PUT", `${path}/percent`, { percent });
  });
  part.percent.addEventListener("input", () => (part.typed = true));
  part.percent.setAttribute("aria-label", visible(`Percent of ${shadow.name}`));
  part.set.setAttribute("aria-label", visible(`Set the percent of ${shadow.name}`));
  part.pause.addEventListener("click", () => {
    const paused = part.held;
    act(
      part.pause,
      `${shadow.name} ${paused ? "gets requests again" : "is paused"}.`,
      "POST",
      `${path}/${paused ? "resume" : "pause"}`,
    );
  });
  const legend = "the shadow: half of the requests are answered within this time";
  const element = h(
    "article",
    { class: "card", "aria-labelledby": id },
    h(
      "div",
      { class: "head" },
      h("div", {}, h("h3", { id }, h("code", {}, shadow.name), part.state), part.url),
      h("div", { class: "controls" }, form, part.pause),
    ),
    part.ramp,
    h(
      "div",
      { class: "parts" },
      h("section", {}, h("h4", {}, "Answers"), part.rate, part.outcomeBar, part.outcomes, answering.element, part.lane),
      h(
        "section",
        {},
        h("h4", {}, "Latency"),
        h("table", {}, heads(["of", "requests", "p50, ms", "p99, ms"], true), part.latencies),
        latency.element,
        h(
          "p",
          { class: "soft" },
          h("span", { class: "key live" }),
          " live, ",
          h("span", { class: "key" }),
          " ",
          legend,
        ),
      ),
      h(
        "section",
        {},
        h("h4", {}, "Agreement with live"),
        part.agreement,
        part.interval,
        h("div", { class: "ends soft" }, part.begins, h("span", {}, "100\u00a0%")),
        part.around,
        part.verdicts,
      ),
    ),
    part.verdict.element,
  );
  showVerdict(part.verdict, shadow);
  return { element, part };
}

/** Counts with their words: the first always, the others where they are not 0. */
function counts(list, figures) {
  const shown = figures.filter(([, each], at) => at === 0 || each > 0);
  if (list.children.length !== shown.length) list.replaceChildren(...shown.map(() => h("li", {}, h("b"), h("span"))));
  shown.forEach(([word, each], at) => {
    put(list.children[at].children[0], count(each));
    put(list.children[at].children[1], ` ${word}`);
  });
}

const NOT_CHOSEN = {
  percent: "by percent",
  method: "by method",
  match: "by match",
  unread_body: "for a body that match cannot read",
  held_out: "held out by the ramp",
};

/** Why requests were not chosen for this shadow, and a warning if nearly all have the same few sampling keys. */
function notChosen(shadow, { first, again }) {
  const reasons = Object.entries(NOT_CHOSEN).filter(([reason]) => shadow.not_chosen[reason] > 0);
  const list = reasons.map(([reason, words]) => `${count(shadow.not_chosen[reason])} ${words}`).join(", ");
  const sampled = shadow.percent > 0 && shadow.percent < 100 && first + again >= 50;
  const alike = sampled && again > 9 * first ? "; SAMPLING KEYS REPEAT, so percent chooses all or none" : "";
  return `${list && `; not chosen since the start: ${list}`}${alike}`;
}

function showShadow(part, shadow, overview) {
  part.shadow = shadow;
  const [state, kind] = stateOf(shadow, overview.paused);
  put(part.state, state);
  name(part.state, `chip ${kind}`);
  const file = shadow.ramp || shadow.configured_percent === shadow.percent ? "" : `; the file says ${shadow.configured_percent} %`;
  const twice = shadow.control ? "live asked a second time, to see how much it differs from itself; " : "";
  const wanting = shadow.unusable ? `; gets no requests, because its settings cannot be used yet: ${shadow.unusable}` : "";
  put(part.url, `${twice}${shadow.url}${file}${wanting}`);
  if (!part.typed && document.activeElement !== part.percent) part.percent.value = shadow.percent;
  // A percent that was set here holds a ramp as a pause does, and is ended in the same way.
  part.held = shadow.paused || (shadow.ramp?.state === "halted" && !overview.paused);
  put(part.pause, part.held ? "Resume" : "Pause");
  const label = visible(`${part.held ? "Resume" : "Pause"} ${shadow.name}`);
  if (part.pause.getAttribute("aria-label") !== label) part.pause.setAttribute("aria-label", label);

  put(part.ramp, rampText(shadow.ramp));
  part.ramp.hidden = !shadow.ramp;
  put(part.rate, `${rate(shadow.rate)}/s`);
  const outcomes = shadow.outcomes;
  const sum = (words) => words.reduce((total, word) => total + (outcomes[word] ?? 0), 0);
  bar(part.outcomeBar, [
    ["ok", outcomes.ok ?? 0],
    ["failed", sum(FAILED)],
    ["shed", sum(SHED)],
    ["held", sum(HELD)],
  ]);
  const { ok = 0, ...others } = outcomes;
  counts(part.outcomes, [["ok", ok], ...Object.entries(others).sort(([, one], [, other]) => other - one)]);
  const lane = `${count(shadow.in_flight)} under way, ${count(shadow.waiting)} waiting`;
  const failed = shadow.answers_failed ? `; with the status of a success, ${failedAnswers(shadow.answers_failed)}` : "";
  const ids = stateText(shadow.state);
  put(part.lane, `${lane}, breaker ${shadow.breaker}${budgetText(shadow.budget)}${ids}${notChosen(shadow, overview.sampling_keys)}${failed}`);

  const live = overview.live.latency.mirrored;
  const own = shadow.latency;
  rows(part.latencies, [
    ["live", count(live.count), ms(live.p50_ms), ms(live.p99_ms)],
    ["shadow", count(own.count), ms(own.p50_ms), ms(own.p99_ms)],
  ]);
  const series = shadow.series;
  const now = series.at(-1)?.[0] ?? 0;
  part.answering.draw([series.map(([t, each]) => [t, each])], now, overview.window_seconds, (value) => `${rate(value)}/s`);
  const p50 = ([t, , each]) => [t, each];
  part.latency.draw(
    [overview.live.series.map(p50), series.map(p50)],
    now,
    overview.window_seconds,
    (value) => `${ms(value)} ms`,
  );

  const agreement = shadow.agreement;
  put(part.agreement, agreement ? share(agreement.share) : "–");
  put(part.begins, share(interval(part.interval, agreement)));
  if (agreement) {
    const range = `95 % interval ${share(agreement.low)} to ${share(agreement.high)}`;
    put(part.around, `of ${count(agreement.compared)} compared; ${range}`);
  } else {
    const why = ok ? "; with compare.online: false, nothing is compared" : "";
    put(part.around, `No answer was compared in the last ${span(overview.window_seconds)}${why}.`);
  }
  counts(
    part.verdicts,
    VERDICTS.map((verdict) => [verdict, shadow.verdicts[verdict] ?? 0]),
  );
}

const RAMP = {
  rising: "RISING",
  holding: "HOLDING",
  waiting: "WAITING after a step back",
  top: "AT ITS TOP",
  halted: "STANDS STILL",
};

/** Where a percent that rises by itself stands, what keeps it, and its last step. */
function rampText(ramp) {
  if (!ramp) return "";
  const at = ramp.state === "holding" ? "" : ` at ${clock(ramp.next?.at)} at the earliest`;
  const next = ramp.next ? `, next to ${ramp.next.percent}\u00a0%${at}` : "";
  const resume = ramp.state === "halted" ? ", until the shadow is resumed" : "";
  const why = ramp.why ? `; ${ramp.why}${resume}` : "";
  const { last } = ramp;
  const moved = last && `${last.to < last.from ? "STEPPED BACK" : "rose"} from ${last.from}\u00a0% to ${last.to}\u00a0%`;
  const step = last ? ` Last, at ${clock(last.at)}, it ${moved}: ${last.why}.` : "";
  const steps = `${count(ramp.raised)} up, ${count(ramp.back)} back`;
  return `Ramp ${RAMP[ramp.state]} at ${ramp.percent}\u00a0%${next}${why}. Steps: ${steps}.${step}`;
}

/** What is known of a stateful shadow's own IDs. */
function stateText(state) {
  if (!state) return "";
  const dropped = state.dropped ? `, ${count(state.dropped)} dropped` : "";
  return `; ${count(state.translated)} requests translated since the start, ${count(state.ids)} IDs kept${dropped}`;
}

function budgetText(budget) {
  if (!budget) return "";
  const parts = [];
  if (budget.requests) parts.push(`${count(budget.requests.used)} of ${count(budget.requests.allowed)} requests`);
  if (budget.tokens) parts.push(`${count(budget.tokens.used)} of ${count(budget.tokens.allowed)} tokens`);
  if (budget.cost) parts.push(`a cost of ${+budget.cost.used.toPrecision(4)} of ${budget.cost.allowed}`);
  if (!none(budget.seconds_left)) parts.push(`${span(Math.max(0, budget.seconds_left))} left`);
  return parts.length ? `, budget ${parts.join(", ")}` : "";
}

function showShadows(overview) {
  const lanes = overview.control ? [...overview.shadows, { ...overview.control, control: true }] : overview.shadows;
  const names = new Set(overview.shadows.map((shadow) => shadow.name));
  const lasting = new Set(lanes.map((lane) => lane.name));
  for (const [gone, { element }] of cards) {
    if (lasting.has(gone)) continue;
    element.remove();
    cards.delete(gone);
  }
  for (const shadow of lanes) {
    if (!cards.has(shadow.name)) {
      cards.set(shadow.name, shadowCard(shadow));
      $("shadows").append(cards.get(shadow.name).element);
    }
    showShadow(cards.get(shadow.name).part, shadow, overview);
  }
  $("none").hidden = names.size > 0;
  $("all").hidden = names.size === 0;
  const known = [...$("which").options].slice(1).map((option) => option.value);
  if (known.join("\n") !== [...names].join("\n")) {
    const chosen = $("which").value;
    const options = [...names].map((each) => h("option", { value: each }, each));
    $("which").replaceChildren(h("option", { value: "" }, "all"), ...options);
    $("which").value = names.has(chosen) ? chosen : "";
  }
}
