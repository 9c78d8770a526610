// Whether live is untouched.

// Fewer requests than this on either side, and the quantile says nothing: a p99 is what 10 of 1,000 were above.
const ENOUGH = { p50: 100, p99: 1000 };
const ALLOWED = 0.2; // the report's gate: how much above the latency without mirroring is still untouched
const BUSY = 0.01; // share of what was to be mirrored and was shed for overload, from which that comes first
const FINEST = 1; // ms: the first of the spans that durations are counted in: below it nothing can be told apart

/** The requests of the window, and how many live failed on. A caller that leaves is no fault of live's. */
function tally(live) {
  const { ok = 0, caller_left: left = 0, ...others } = live.outcomes;
  const failed = Object.values(others).reduce((sum, each) => sum + each, 0);
  return { all: ok + left + failed, failed, others: { ...others, ...(left && { caller_left: left }) } };
}

/** How many requests were to be mirrored, over all shadows, and how many of them were not, for overload. */
function mirroring(shadows) {
  const sum = (counts) => counts.reduce((total, each) => total + each, 0);
  return {
    chosen: sum(shadows.flatMap((shadow) => Object.values(shadow.outcomes))),
    shed: sum(shadows.map((shadow) => shadow.outcomes.overload ?? 0)),
  };
}

/** What the banner says: how sure it is (the report's words), a headline, and why. */
function untouched(told) {
  const { live, overload, window_seconds: seconds } = told;
  const { mirrored, not_mirrored: alone } = live.latency;
  const within = `in the last ${span(seconds)}`;
  const { all, failed } = tally(live);
  if (all === 0) {
    const next = "Point a caller's base URL at what the configuration calls listen: live answers it, as before.";
    return ["no-data", "NO REQUEST YET", `Nothing came ${within}. ${next}`];
  }
  const every = all === 1 ? "the one request" : `all ${count(all)} requests`;
  const errors = failed
    ? `${count(failed)} of ${count(all)} requests were not answered whole`
    : `Live answered ${every}`;
  const { shed, chosen } = mirroring(told.shadows);
  const spared = `So that callers did not feel it, ${count(shed)} of ${count(chosen)} were not mirrored (overload).`;
  const besides = `${shed ? ` ${spared}` : ""} The event loop is ${ms(overload.loop_lag_ms)} ms late.`;
  if (failed) return ["fail", "LIVE DOES NOT ANSWER ALL", `${errors} ${within}.${besides}`];
  const sentence = (compared) => `${errors} ${within}.${compared && ` ${compared}`}${besides}`;
  if (shed > BUSY * chosen) return ["inconclusive", "THE PROXY WAS OVERLOADED", sentence("")];
  if (mirrored.count === 0) return ["pass", "LIVE ANSWERS", sentence("No request was mirrored.")];
  if (alone.count === 0) {
    const next = "Every request was mirrored: with a percent below 100, latency without mirroring stands beside it.";
    return ["pass", "LIVE ANSWERS", sentence(next)];
  }
  const times = (q) => `${q} ${ms(mirrored[`${q}_ms`])} ms with mirroring, ${ms(alone[`${q}_ms`])} ms without`;
  const enough = (q) => mirrored.count >= ENOUGH[q] && alone.count >= ENOUGH[q];
  if (!enough("p50")) {
    const few = `Too few requests to compare latencies: ${count(mirrored.count)} mirrored, ${count(alone.count)} not.`;
    return ["pass", "LIVE ANSWERS", sentence(few)];
  }
  const compared = `${times("p50")}; ${times("p99")}.`;
  const above = (q) => mirrored[`${q}_ms`] - alone[`${q}_ms`];
  const slower = ["p50", "p99"].some((q) => enough(q) && above(q) > Math.max(FINEST, ALLOWED * alone[`${q}_ms`]));
  if (slower) {
    const why = `${compared} It may be other requests, chance or mirroring.`;
    return ["inconclusive", "MIRRORED REQUESTS WERE SLOWER", sentence(why)];
  }
  return ["pass", "LIVE IS UNTOUCHED", sentence(compared)];
}

/** A card with a heading, a large figure, and lines of small print below. */
function card(heading, ...below) {
  const big = h("p", { class: "big" }, "\u00a0");
  const small = h("p", { class: "soft" }, "\u00a0");
  $("figures").append(h("section", { class: "card" }, h("h3", {}, heading), big, small, ...below));
  return { big, small };
}

const arriving = spark(["shadow"]);
const figures = {
  rate: card("Requests", arriving.element),
  latency: card("Latency of live", latencyTable()),
  errors: card("Not answered by live"),
  room: card("Load on the proxy"),
  journal: card("The log"),
};

function latencyTable() {
  return h("table", {}, heads(["mirroring", "requests", "p50, ms", "p99, ms"], true), h("tbody", { id: "latencies" }));
}

/** Rows of a heading and figures, made once and then only given new text. */
function rows(body, told) {
  if (body.rows.length !== told.length) {
    const made = ([, ...cells]) => h("tr", {}, h("th", { scope: "row" }), ...cells.map(() => h("td", { class: "n" })));
    body.replaceChildren(...told.map(made));
  }
  told.forEach((row, at) => row.forEach((text, column) => put(body.rows[at].cells[column], text)));
}

function showLive(told) {
  const [kind, headline, why] = untouched(told);
  const { live, overload, journal } = told;
  name($("live"), `banner ${kind}`);
  put($("live").children[0], headline);
  put($("live").children[1], why);
  document.title = visible(`${headline.toLowerCase()} · ${told.proxy}`);

  const series = live.series;
  const now = series.at(-1)?.[0] ?? 0;
  put(figures.rate.big, `${rate(live.rate)}/s`);
  put(figures.rate.small, `${count(live.in_flight)} under way${live.url ? `, to ${live.url}` : ""}`);
  arriving.draw([series.map(([t, each]) => [t, each])], now, told.window_seconds, (value) => `${rate(value)}/s`);

  const { mirrored, not_mirrored: alone } = live.latency;
  const half = mirrored.count ? mirrored.p50_ms : alone.p50_ms;
  put(figures.latency.big, none(half) ? "–" : `${ms(half)} ms`);
  put(figures.latency.small, none(half) ? "\u00a0" : "half of the requests are answered within it");
  rows($("latencies"), [
    ["with", count(mirrored.count), ms(mirrored.p50_ms), ms(mirrored.p99_ms)],
    ["without", count(alone.count), ms(alone.p50_ms), ms(alone.p99_ms)],
  ]);

  const { all, failed, others } = tally(live);
  put(figures.errors.big, failed ? `${count(failed)}, ${share(failed / all)}` : all ? "none" : "–");
  name(figures.errors.big, failed ? "big fail" : "big");
  const reasons = Object.entries(others).map(([outcome, each]) => `${count(each)} ${outcome}`);
  const because = reasons.length ? `: ${reasons.join(", ")}` : "";
  put(figures.errors.small, `of ${count(all)} requests in the last ${span(told.window_seconds)}${because}`);

  put(figures.room.big, `${ms(overload.loop_lag_ms)} ms`);
  const held = `${bytes(overload.memory_held)} of ${bytes(overload.memory_limit)} held for copies`;
  put(figures.room.small, `that the event loop is late. ${held}.`);

  const lost = Object.entries(journal.lost).filter(([, each]) => each > 0);
  put(figures.journal.big, count(journal.written));
  const trouble = lost.length ? `LOST ${lost.map(([why, each]) => `${count(each)} ${why}`).join(", ")}` : "none lost";
  const last = journal.last_error ? `; last trouble: ${journal.last_error}` : "";
  const failing = journal.failing ? `; NOT WRITTEN NOW, ${journal.failing}` : "";
  put(figures.journal.small, `records written, ${trouble}; ${count(journal.queued)} waiting${failing}${last}`);
  name(figures.journal.small, lost.length || journal.failing ? "fail" : "soft");
}
