// Small drawings. Each stands beside the figures that it draws and adds no information.

/** A line for each of `kinds` over the window; `draw` takes a list of [seconds, value] for each. */
function spark(kinds) {
  const lines = kinds.map((kind) => drawn("path", { class: kind }));
  const floor = drawn("path", { class: "axis", d: "M0 39.5H300" });
  const picture = drawn(
    "svg",
    { class: "spark", viewBox: "0 0 300 40", preserveAspectRatio: "none", "aria-hidden": "true" },
    floor,
    ...lines,
  );
  const ends = h("div", { class: "ends soft" }, h("span"), h("span"));
  const element = h("div", {}, picture, ends);
  function draw(lists, now, seconds, unit) {
    const highest = Math.max(0, ...lists.flat().map(([, value]) => value ?? 0));
    lines.forEach((line, at) => {
      let path = "";
      let last = null;
      for (const [t, value] of lists[at]) {
        if (none(value)) continue;
        const x = 300 - ((now - t) / seconds) * 300;
        const y = highest ? 38 - (value / highest) * 35 : 38;
        path += `${last !== null && t - last < seconds / 20 ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
        last = t;
      }
      line.setAttribute("d", path);
    });
    put(ends.children[0], span(seconds));
    put(ends.children[1], highest ? `up to ${unit(highest)}` : "\u00a0");
  }
  return { element, draw };
}

/** One bar, cut by the counts of [kind, count]. */
function bar(picture, parts) {
  const total = parts.reduce((sum, [, each]) => sum + each, 0);
  let left = 0;
  const pieces = parts
    .filter(([, each]) => each > 0)
    .map(([kind, each]) => {
      const width = Math.max(0.5, (each / total) * 100);
      const piece = drawn("rect", { class: kind, x: left.toFixed(2), width: width.toFixed(2), height: 10 });
      left += width;
      return piece;
    });
  picture.replaceChildren(...(pieces.length ? pieces : [drawn("rect", { class: "empty", width: 100, height: 10 })]));
}

/** An interval of shares, on an axis that begins at a round number close below it; returns that number. */
function interval(picture, agreement) {
  const begins = agreement ? ([0.99, 0.9, 0.5].find((each) => agreement.low >= each) ?? 0) : 0;
  const at = (value) => ((value - begins) / (1 - begins)) * 100;
  const parts = [drawn("rect", { class: "axis", y: 4.5, width: 100, height: 1 })];
  if (agreement) {
    const width = Math.max(0.6, at(agreement.high) - at(agreement.low));
    parts.push(drawn("rect", { class: "range", x: Math.min(at(agreement.low), 100 - width), y: 2, width, height: 6 }));
    parts.push(
      drawn("rect", { class: "value", x: Math.min(99, Math.max(0, at(agreement.share) - 0.5)), width: 1, height: 10 }),
    );
  }
  picture.replaceChildren(...parts);
  return begins;
}

const strip = (kind) =>
  drawn("svg", { class: kind, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
