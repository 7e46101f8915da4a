// What becomes of latents from dictionary to dictionary: a bar each, and ribbons of what is passed on.
const CLASSES = ["passed on", "new", "lost in the error", "gone", "too rare to judge", "dead"];
const UNJUDGED = new Set(["too rare to judge", "dead"]);
const classId = (kind) => "class-" + CLASSES.indexOf(kind);
const BAR = { width: 11, stub: 34, least: 104, most: 168, height: 230, top: 8, side: 56 };

const chosenLifecycles = () => {
  const wanted = ["measure", "threshold", "matching"].map((name) => byId("lifecycle-" + name)).map((select) => select.value);
  return DATA.lifecycles.filter((one) => one.measure === wanted[0] && String(one.threshold) === wanted[1] && one.matching === wanted[2]);
};

const kept = (counts, judged) => Object.fromEntries(CLASSES.filter((kind) => counts[kind] && !(judged && UNJUDGED.has(kind))).map((kind) => [kind, counts[kind]]));
const total = (counts) => sum(Object.values(counts));
const judgedOf = (counts) => sum(Object.entries(counts).filter(([kind]) => !UNJUDGED.has(kind)).map(([, n]) => n));

const drawLifecycle = () => {
  const judged = byId("lifecycle-judged").checked, found = new Map(chosenLifecycles().map((one) => [one.upstream + ">" + one.downstream, one]));
  const thin = { count: 0 };
  const drawings = DATA.chains.map((chain) => drawSankey(chain, found, judged, thin)).filter(Boolean);
  fill("sankeys", ...drawings);
  const kinds = CLASSES.filter((kind) => [...found.values()].some((one) => (one.ahead[kind] || one.behind[kind]) && !(judged && UNJUDGED.has(kind))));
  fill("lifecycle-legend", ...kinds.map((kind) => make("span", {}, make("i", { class: "swatch " + classId(kind) }), " " + kind)));
  const one = [...found.values()][0];
  const rule = { best: "its best partner", hungarian: "its partner in the one-to-one matching (Hungarian)", mutual: "each other's best partner" };
  fill("lifecycle-said", one ? "A latent is passed on where " + plainly(one.measure) + " with " + rule[one.matching] + " is at least " + one.threshold + ". Right of a bar stands what becomes of its latents, left of it where they come from; several may share a best partner, so that the two ends of a ribbon differ. Shares are of " + (judged ? "judged latents" : "all latents") + "." : "No pair was classified so.",
    one && !one.error_known ? " What is lost in the next dictionary's error was not measured, and counts as gone." : null,
    thin.count ? " " + counted(thin.count, "share") + " too thin for a label; the table has all." : null,
    drawings.length ? null : " No pair goes on from another: there is no picture, the table has the numbers.");
  const rows = [...found.values()].flatMap((pair) => [["upstream", pair.ahead], ["downstream", pair.behind]].flatMap(([side, counts]) =>
    Object.entries(counts).map(([kind, n]) => ({ pair, side, kind, n, all: n / total(counts), judged: UNJUDGED.has(kind) || !judgedOf(counts) ? NaN : n / judgedOf(counts) }))));
  twin("lifecycle", "Latents of each class", [
    { name: "pair", text: true, of: (row) => row.pair.upstream + ">" + row.pair.downstream },
    { name: "side", text: true, of: (row) => row.side },
    { name: "class", text: true, of: (row) => row.kind },
    { name: "latents", of: (row) => row.n, show: (row) => whole(row.n) },
    { name: "of all", of: (row) => row.all, show: (row) => percent(row.all) },
    { name: "of judged", of: (row) => row.judged, show: (row) => percent(row.judged) },
  ], rows);
};

const drawSankey = (chain, found, judged, thin) => {
  const links = chain.slice(1).map((name, at) => found.get(chain[at] + ">" + name));
  if (!links.some(Boolean)) return null;
  const ahead = links.map((link) => link && kept(link.ahead, judged)), behind = links.map((link) => link && kept(link.behind, judged));
  const largest = Math.max(...ahead.concat(behind).filter(Boolean).map(total), 1), scale = BAR.height / largest;
  const room = (byId("sankeys").clientWidth - 2 * BAR.side) / (chain.length - 1), step = Math.floor(Math.min(BAR.most, Math.max(BAR.least, room)));
  const width = 2 * BAR.side + (chain.length - 1) * step, parts = [], names = [];
  const spans = (counts) => { let y = BAR.top; return Object.fromEntries(CLASSES.filter((kind) => counts[kind]).map((kind) => [kind, [y, (y += counts[kind] * scale)]])); };
  const stubs = (x, counts, side, name) => {
    const all = total(counts);
    for (const [kind, [upper, lower]] of Object.entries(spans(counts))) {
      const said = name + ": " + whole(counts[kind]) + " of " + whole(all) + (judged ? " judged" : "") + " latents " + kind + " (" + percent(counts[kind] / all) + ")";
      if (kind !== "passed on") parts.push(make("rect", { class: classId(kind), x: side > 0 ? x : x - BAR.stub, y: upper, width: BAR.stub, height: lower - upper }, make("title", {}, said)));
      if (lower - upper >= 11) parts.push(make("text", { x: x + side * 4, y: (upper + lower) / 2 + 4, "text-anchor": side > 0 ? "start" : "end" }, percent(counts[kind] / all), make("title", {}, said)));
      else thin.count += 1;
    }
  };
  links.forEach((link, at) => {
    if (!link) return;
    const x0 = BAR.side + at * step + BAR.width / 2, x1 = x0 + step - BAR.width, middle = (x0 + x1) / 2;
    const [left, right] = [spans(ahead[at])["passed on"], spans(behind[at])["passed on"]];
    if (left && right) parts.push(make("path", { class: "class-0", d: `M${x0} ${left[0]}C${middle} ${left[0]} ${middle} ${right[0]} ${x1} ${right[0]}L${x1} ${right[1]}C${middle} ${right[1]} ${middle} ${left[1]} ${x0} ${left[1]}Z` },
      make("title", {}, whole(ahead[at]["passed on"]) + " latents of " + link.upstream + " have a partner in " + link.downstream + "; " + whole(behind[at]["passed on"]) + " there have one here")));
    stubs(x0, ahead[at], 1, link.upstream);
    stubs(x1, behind[at], -1, link.downstream);
  });
  chain.forEach((name, at) => {
    const x = BAR.side + at * step, n = Math.max(...[ahead[at], behind[at - 1]].filter(Boolean).map(total), 0);
    parts.push(make("rect", { class: "ink", x: x - BAR.width / 2, y: BAR.top, width: BAR.width, height: Math.max(1, n * scale) }, make("title", {}, name + ": " + whole(n) + " latents")));
    names.push(make("text", { x, y: BAR.top + BAR.height + 18, "text-anchor": "middle" }, name), make("text", { class: "muted", x, y: BAR.top + BAR.height + 33, "text-anchor": "middle" }, whole(n)));
  });
  const height = BAR.top + BAR.height + 40;
  return make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Latents passed on, new and gone along " + chain.join(", ") + "; the table below has the numbers" }, ...parts, ...names);
};

if (either("lifecycle", DATA.lifecycles.length)) {
  const names = ["measure", "threshold", "matching"];
  const words = { measure: plainly, threshold: String, matching: (name) => ({ best: "best partner", hungarian: "one to one (Hungarian)", mutual: "one to one (mutual best)" })[name] };
  fill("lifecycle-settings", ...names.map((name) => {
    const values = [...new Set(DATA.lifecycles.map((one) => one[name]))];
    const select = make("select", { id: "lifecycle-" + name, onchange: () => drawLifecycle() }, ...values.map((value) => make("option", { value }, words[name](value))));
    // Pearson is the measure that is 0 by chance.
    select.value = values.includes("pearson") ? "pearson" : values.includes(0.5) ? "0.5" : String(values[0]);
    return make("label", {}, name === "threshold" ? "from" : name, " ", select, " ");
  }));
  byId("lifecycle-judged").addEventListener("change", drawLifecycle);
  drawLifecycle();
  window.addEventListener("resize", drawLifecycle, { signal: stop.signal });
}
