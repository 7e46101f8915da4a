// Effect of ablation by similarity, for every measure, and how well each ranks pairs.
const pointsOf = (pair, measure) => pair.drawn[measure].map((place, at) => ({ i: pair.i[place], j: pair.j[place], value: pair.values[measure][at], effect: float(pair.effect[place]) }))
  .filter(({ effect }) => Number.isFinite(effect));
const effectsRows = (pair) => pair.agreement.map((one) => ({ ...one, points: pointsOf(pair, one.measure) }))
  .sort((a, b) => (Number.isFinite(float(b.spearman)) ? float(b.spearman) : -2) - (Number.isFinite(float(a.spearman)) ? float(a.spearman) : -2));

const drawEffects = () => {
  const pair = DATA.effects[byId("effects-pair").value], rows = effectsRows(pair);
  const width = 620, left = 150, right = 150, line = 22, x = (value) => left + ((value + 1) / 2) * (width - left - right), height = rows.length * line + 34;
  const marks = rows.flatMap((one, at) => {
    const y = 12 + at * line, [value, low, high] = [one.spearman, one.low, one.high].map(float);
    return [make("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, plainly(one.measure)),
      ...(Number.isFinite(value) ? [make("line", { class: "whisker", x1: x(low), x2: x(high), y1: y, y2: y }), make("circle", { class: "mean", cx: x(value), cy: y, r: 4.5 })] : []),
      make("text", { class: "muted", x: width - right + 10, y: y + 4 }, Number.isFinite(value) ? fixed(value, 2) + " [" + fixed(low, 2) + ", " + fixed(high, 2) + "]" : "constant")];
  });
  const grid = [-1, -0.5, 0, 0.5, 1].flatMap((tick) => [make("line", { class: "rule", x1: x(tick), x2: x(tick), y1: 2, y2: height - 30 }), make("text", { class: "muted", x: x(tick), y: height - 16, "text-anchor": "middle" }, fixed(tick, tick % 1 ? 1 : 0))]);
  fill("agreement", make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Spearman's correlation of each measure with the effect; the table below has the numbers" }, ...grid, ...marks, make("text", { x: x(0), y: height - 2, "text-anchor": "middle" }, "Spearman's correlation with the effect")));
  fill("bins", ...rows.map(drawBins));
  const table = DATA.effects.flatMap((one) => effectsRows(one).flatMap((found) => found.counts.map((count, bin) => ({ pair: one, found, bin, count }))));
  twin("effects", "Effects by bin, all pairs of dictionaries", [
    { name: "pair", text: true, of: (row) => pairName(row.pair) },
    { name: "measure", text: true, of: (row) => row.found.measure, show: (row) => plainly(row.found.measure) },
    { name: "from", of: (row) => row.found.edges[row.bin], show: (row) => fixed(row.found.edges[row.bin]) },
    { name: "to", of: (row) => row.found.edges[row.bin + 1], show: (row) => fixed(row.found.edges[row.bin + 1]) },
    { name: "pairs", of: (row) => row.count, show: (row) => whole(row.count) },
    { name: "mean effect", of: (row) => float(row.found.means[row.bin]), show: (row) => fixed(float(row.found.means[row.bin])) },
    { name: "median effect", of: (row) => float(row.found.medians[row.bin]), show: (row) => fixed(float(row.found.medians[row.bin])) },
    { name: "spearman", of: (row) => float(row.found.spearman), show: (row) => fixed(float(row.found.spearman)) },
    { name: "low", of: (row) => float(row.found.low), show: (row) => fixed(float(row.found.low)) },
    { name: "high", of: (row) => float(row.found.high), show: (row) => fixed(float(row.found.high)) },
  ], table);
};

const drawBins = (one) => {
  const known = one.points.map(({ effect }) => effect);
  // Round steps, and room above for the numbers of pairs.
  const [least, most] = [Math.min(0, ...known), Math.max(1e-6, ...known)], last = one.edges.at(-1);
  const step = [1, 2, 2.5, 5, 10].flatMap((unit) => [-4, -3, -2, -1, 0, 1, 2].map((power) => unit * 10 ** power)).sort((a, b) => a - b).find((size) => Math.ceil(most / size) + Math.ceil(-least / size) <= 5) ?? most - least;
  const low = -step * Math.ceil(-least / step), high = step * Math.ceil(most / step), span = (high - low) * 1.1;
  const x = (value) => along(value / last), y = (value) => upTo((value - low) / span);
  const ticks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, at) => low + at * step);
  const pair = DATA.effects[byId("effects-pair").value];
  const points = one.points.map(({ i, j, value, effect }) => make("circle", { class: "point", cx: x(value), cy: y(effect), r: 2.6 },
    make("title", {}, pair.upstream + "/" + i + " → " + pair.downstream + "/" + j + ": " + plainly(one.measure) + " " + fixed(value) + ", effect " + fixed(effect))));
  const bars = one.counts.flatMap((count, bin) => {
    if (!count) return [];
    const [a, b, mean, median] = [x(one.edges[bin]), x(one.edges[bin + 1]), float(one.means[bin]), float(one.medians[bin])];
    return [make("rect", { class: "mean-bar", x: a + 1, width: b - a - 2, y: Math.min(y(mean), y(0)), height: Math.max(1, Math.abs(y(mean) - y(0))) }), make("line", { class: "median", x1: a + 3, x2: b - 3, y1: y(median), y2: y(median) }),
      make("text", { class: "muted count", x: (a + b) / 2, y: PLOT.top + 7, "text-anchor": "middle" }, String(count))];
  });
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) + (String(step).includes("25") ? 1 : 0);
  return make("figure", {}, make("figcaption", {}, plainly(one.measure), make("small", {}, " effect by bin, " + counted(one.pairs, "pair"))),
    make("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": "Effect by " + plainly(one.measure) + "; the table below has the numbers" },
      ...axes(plainly(one.measure), QUARTERS.map((tick) => [tick, fixed(tick * last, last < 0.1 ? 4 : 2)]), ticks.map((tick) => [(tick - low) / span, fixed(tick, places)])), make("line", { class: "zero", x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: y(0), y2: y(0) }), ...bars, ...points));
};

if (either("effects", DATA.effects?.length)) {
  options("effects-pair", DATA.effects, pairName);
  byId("effects-pair").addEventListener("change", drawEffects);
  drawEffects();
}
