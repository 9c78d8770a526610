// Whether live is untouched.

// With fewer requests on either side a quantile is not compared: of 1,000 requests only 10 are above the p99.
const ENOUGH = { p50: 100, p99: 1000 };
const ALLOWED = 0.2; // as gates.py: latency may be so much higher with mirroring
const BUSY = 0.01; // from this share of requests shed for overload on, the headline says so
const FINEST = 1; // ms: the width of the first range that durations are counted in; smaller differences are not seen

/** The requests of the window, and how many live failed. A caller that leaves is not live's failure. */
function countRequests(live) {
  const { ok = 0, caller_left: left = 0, ...others } = live.outcomes;
  const failed = Object.values(others).reduce((sum, each) => sum + each, 0);
  return { all: ok + left + failed, failed, others: { ...others, ...(left && { caller_left: left }) } };
}

/** How many requests were to be mirrored, over all shadows, and how many of these were shed for overload. */
function mirroring(shadows) {
  const sum = (counts) => counts.reduce((total, each) => total + each, 0);
  return {
    chosen: sum(shadows.flatMap((shadow) => Object.values(shadow.outcomes))),
    shed: sum(shadows.map((shadow) => shadow.outcomes.overload ?? 0)),
  };
}

/** The banner: how sure it is (in the report's words), a headline, and the reasons. */
function untouched(overview) {
  const { live, overload, window_seconds: seconds } = overview;
  const { mirrored, not_mirrored: alone } = live.latency;
  const within = `in the last ${span(seconds)}`;
  const { all, failed } = countRequests(live);
  if (all === 0) {
    const next = "Point a caller's base URL at the address that the configuration calls listen; live answers as before.";
    return ["no-data", "NO REQUEST YET", `No request arrived ${within}. ${next}`];
  }
  const every = all === 1 ? "the one request" : `all ${count(all)} requests`;
  const errors = failed
    ? `${count(failed)} of ${count(all)} requests got no complete answer`
    : `Live answered ${every}`;
  const { shed, chosen } = mirroring(overview.shadows);
  const spared = `To keep callers fast, ${count(shed)} of ${count(chosen)} requests were not mirrored (overload).`;
  const besides = `${shed ? ` ${spared}` : ""} The event loop is ${ms(overload.loop_lag_ms)} ms late.`;
  if (failed) return ["fail", "LIVE DOES NOT ANSWER ALL", `${errors} ${within}.${besides}`];
  const sentence = (compared) => `${errors} ${within}.${compared && ` ${compared}`}${besides}`;
  if (shed > BUSY * chosen) return ["inconclusive", "THE PROXY WAS OVERLOADED", sentence("")];
  if (mirrored.count === 0) return ["pass", "LIVE ANSWERS", sentence("No request was mirrored.")];
  if (alone.count === 0) {
    const next = "Every request was mirrored. With a percent below 100, the latency without mirroring can be compared.";
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
    const why = `${compared} The cause may be different requests, chance or mirroring.`;
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
function rows(body, cells) {
  if (body.rows.length !== cells.length) {
    const made = ([, ...others]) =>
      h("tr", {}, h("th", { scope: "row" }), ...others.map(() => h("td", { class: "n" })));
    body.replaceChildren(...cells.map(made));
  }
  cells.forEach((row, at) => row.forEach((text, column) => put(body.rows[at].cells[column], text)));
}

function showLive(overview) {
  const [kind, headline, why] = untouched(overview);
  const { live, overload, journal } = overview;
  name($("live"), `banner ${kind}`);
  put($("live").children[0], headline);
  put($("live").children[1], why);
  document.title = visible(`${headline.toLowerCase()} · ${overview.proxy}`);

  const series = live.series;
  const now = series.at(-1)?.[0] ?? 0;
  put(figures.rate.big, `${rate(live.rate)}/s`);
  put(figures.rate.small, `${count(live.in_flight)} under way${live.url ? `, to ${live.url}` : ""}`);
  arriving.draw([series.map(([t, each]) => [t, each])], now, overview.window_seconds, (value) => `${rate(value)}/s`);

  const { mirrored, not_mirrored: alone } = live.latency;
  const half = mirrored.count ? mirrored.p50_ms : alone.p50_ms;
  put(figures.latency.big, none(half) ? "–" : `${ms(half)} ms`);
  put(figures.latency.small, none(half) ? "\u00a0" : "half of the requests are answered within this time");
  rows($("latencies"), [
    ["with", count(mirrored.count), ms(mirrored.p50_ms), ms(mirrored.p99_ms)],
    ["without", count(alone.count), ms(alone.p50_ms), ms(alone.p99_ms)],
  ]);

  const { all, failed, others } = countRequests(live);
  put(figures.errors.big, failed ? `${count(failed)}, ${share(failed / all)}` : all ? "none" : "–");
  name(figures.errors.big, failed ? "big fail" : "big");
  const reasons = Object.entries(others).map(([outcome, each]) => `${count(each)} ${outcome}`);
  const because = reasons.length ? `: ${reasons.join(", ")}` : "";
  const besides = live.answers_failed ? `. With the status of a success, ${failedAnswers(live.answers_failed)}` : "";
  put(figures.errors.small, `of ${count(all)} requests in the last ${span(overview.window_seconds)}${because}${besides}`);

  put(figures.room.big, `${ms(overload.loop_lag_ms)} ms`);
  const held = `${bytes(overload.memory_held)} of ${bytes(overload.memory_limit)} used for copies`;
  put(figures.room.small, `is how late the event loop runs. ${held}.`);

  const lost = Object.entries(journal.lost).filter(([, each]) => each > 0);
  put(figures.journal.big, count(journal.written));
  const trouble = lost.length ? `LOST ${lost.map(([why, each]) => `${count(each)} ${why}`).join(", ")}` : "none lost";
  const leftOut = journal.sampled_out ? `, ${count(journal.sampled_out)} left out by log.sample` : "";
  const last = journal.last_error ? `; last trouble: ${journal.last_error}` : "";
  const failing = journal.failing ? `; NOT WRITTEN NOW, ${journal.failing}` : "";
  const { uploads } = overview;
  const stuck = uploads && (uploads.trouble || uploads.removed);
  const sent = uploads ? `; ${count(uploads.sent)} files uploaded, ${count(uploads.waiting)} waiting` : "";
  const removed = uploads && uploads.removed ? `, ${count(uploads.removed)} REMOVED BEFORE` : "";
  const stalled = uploads && uploads.trouble ? `; NOT UPLOADED NOW, ${uploads.trouble}` : "";
  put(
    figures.journal.small,
    `records written${leftOut}, ${trouble}; ${count(journal.queued)} waiting${failing}${last}${sent}${removed}${stalled}`,
  );
  name(figures.journal.small, lost.length || journal.failing || stuck ? "fail" : "soft");
}
