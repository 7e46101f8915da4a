// Share of judged latents whose best partner reaches a threshold, upstream and downstream, with what chance gives.
const THRESHOLDS = [...column(DATA.thresholds)];
const SIDES = ["forward", "backward"];
const sideWords = { forward: "upstream latents with a partner downstream", backward: "downstream latents with a partner upstream" };
const pairName = (pair) => pair.upstream + ">" + pair.downstream;
const shade = (place, of) => `color-mix(in oklab, var(--pos) ${Math.round(25 + (75 * (place + 1)) / of)}%, var(--paper))`;

const swept = () => {
  const measure = DATA.sweepMeasures[byId("sweep-measure").value];
  return DATA.pairs.map((pair, place) => {
    const found = pair.sweeps.find((one) => one.measure === measure);
    if (!found) return null;
    const line = { pair, colour: shade(place, DATA.pairs.length), judged: found.judged };
    SIDES.forEach((side, at) => {
      const share = (counts) => (counts === null ? null : [...column(counts)].map((n) => n / Math.max(found.judged[at], 1)));
      line[side] = share(found[side]);
      line["null_" + side] = share(found["null_" + side]);
      line["counts_" + side] = [...column(found[side])];
    });
    return line;
  }).filter(Boolean);
};

const PLOT = { width: 430, height: 230, left: 44, right: 16, top: 8, bottom: 34 };
const along = (x) => PLOT.left + x * (PLOT.width - PLOT.left - PLOT.right);
const upTo = (y) => PLOT.height - PLOT.bottom - y * (PLOT.height - PLOT.top - PLOT.bottom);

// Axes of a plot from 0 to 1 each way; ticks are [place, words].
const QUARTERS = [0, 0.25, 0.5, 0.75, 1];
const axes = (words, xTicks, yTicks) => [
  ...yTicks.flatMap(([at, said]) => [make("line", { class: "rule", x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: upTo(at), y2: upTo(at) }), make("text", { class: "muted", x: PLOT.left - 5, y: upTo(at) + 4, "text-anchor": "end" }, said)]),
  ...xTicks.map(([at, said]) => make("text", { class: "muted", x: along(at), y: PLOT.height - PLOT.bottom + 15, "text-anchor": "middle" }, said)),
  make("text", { x: along(0.5), y: PLOT.height - 4, "text-anchor": "middle" }, words),
];

const drawSweep = () => {
  const lines = swept(), measure = plainly(DATA.sweepMeasures[byId("sweep-measure").value]);
  const points = (values) => values.map((y, at) => along(THRESHOLDS[at]).toFixed(1) + "," + upTo(y).toFixed(1)).join(" ");
  fill("sweep-panels", ...SIDES.map((side) => {
    const curves = lines.flatMap((line) => [
      line["null_" + side] ? make("polyline", { class: "curve chance", points: points(line["null_" + side]) }) : null,
      make("polyline", { class: "curve", points: points(line[side]), style: "stroke: " + line.colour }, make("title", {}, pairName(line.pair))),
    ]).filter(Boolean);
    return make("figure", {}, make("figcaption", {}, sideWords[side]), make("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": sideWords[side] + " by threshold of " + measure + "; the tables below have the numbers" },
      ...axes("least " + measure, QUARTERS.map((tick) => [tick, String(tick)]), QUARTERS.map((tick) => [tick, percent(tick)])), ...curves, make("line", { class: "cursor", "data-cursor": "", y1: PLOT.top, y2: PLOT.height - PLOT.bottom })));
  }));
  const judged = lines.some((line) => line.null_forward);
  fill("sweep-said", "Shares are of judged latents, by their best partner. ", judged ? "Dotted: what shuffled documents give. " : "No shuffled documents were counted for this measure. ",
    DATA.pairs.length > lines.length ? counted(DATA.pairs.length - lines.length, "pair") + " without this measure." : null);
  const rows = lines.flatMap((line) => THRESHOLDS.flatMap((threshold, at) => SIDES.map((side, s) => ({ line, threshold, at, side, s }))));
  twin("sweep", "Latents by threshold of " + measure, [
    { name: "pair", text: true, of: (row) => pairName(row.line.pair) },
    { name: "side", text: true, of: (row) => ["upstream", "downstream"][row.s] },
    { name: "threshold", of: (row) => Math.round(100 * row.threshold) / 100, show: (row) => row.threshold.toFixed(2) },
    { name: "latents", of: (row) => row.line["counts_" + row.side][row.at], show: (row) => whole(row.line["counts_" + row.side][row.at]) },
    { name: "of judged", of: (row) => row.line[row.side][row.at], show: (row) => percent(row.line[row.side][row.at]) },
    { name: "by chance", of: (row) => row.line["null_" + row.side]?.[row.at] ?? NaN, show: (row) => percent(row.line["null_" + row.side]?.[row.at] ?? NaN) },
  ], rows);
  readSweep();
};

const readSweep = () => {
  const lines = swept(), at = Number(byId("sweep-at").value), x = along(THRESHOLDS[at]);
  byId("sweep-output").textContent = THRESHOLDS[at].toFixed(2);
  byId("sweep-panels").querySelectorAll("[data-cursor]").forEach((line) => { line.setAttribute("x1", x); line.setAttribute("x2", x); });
  const cell = (line, side) => make("td", { class: "n" }, percent(line[side][at]), make("small", {}, line["null_" + side] ? " chance " + percent(line["null_" + side][at]) : ""));
  fill("sweep-readout", make("thead", {}, make("tr", {}, ...["pair", "upstream", "downstream", "judged"].map((name, place) => make("th", { scope: "col", class: place ? "n" : "" }, name)))),
    make("tbody", {}, ...lines.map((line) => make("tr", {}, make("td", {}, make("i", { class: "swatch", style: "background: " + line.colour }), " " + pairName(line.pair)), cell(line, "forward"), cell(line, "backward"), make("td", { class: "n" }, line.judged.map(whole).join(" and "))))));
};

DATA.sweepMeasures = [...new Set(DATA.pairs.flatMap((pair) => pair.sweeps.map((one) => one.measure)))];
options("sweep-measure", DATA.sweepMeasures, plainly);
byId("sweep-measure").value = Math.max(0, DATA.sweepMeasures.indexOf("pearson"));
byId("sweep-measure").addEventListener("change", drawSweep);
byId("sweep-at").addEventListener("input", readSweep);
drawSweep();
