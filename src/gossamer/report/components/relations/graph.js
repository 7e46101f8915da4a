// The latents that a prompt lights up at the chosen tokens, and what they have to do with each other.
const readGraph = (raw) => {
  const found = { values: {}, intervals: {}, leftOut: raw.left_out };
  for (const name of ["dictionary", "latent", "active", "maximum", "kept", "community", "head", "tail", "n", "m", "c"]) found[name] = column(raw[name]);
  for (const [name, values] of Object.entries(raw.values)) found.values[name] = column(values);
  for (const [name, [low, high]] of Object.entries(raw.intervals)) found.intervals[name] = [column(low), column(high)];
  found.nodeOf = new Map([...found.latent].map((latent, node) => [found.dictionary[node] + ":" + latent, node]));
  return found;
};
const GRAPH = DATA.graph === null ? null : readGraph(DATA.graph);
const MEASURES = GRAPH ? Object.keys(GRAPH.values) : [];
// Lines that are drawn at most: more cannot be told apart.
const MOST_LINES = 1500, MOST_COLOURS = 10;
const CELL = { x: 27, y: 58, left: 104, top: 22, radius: 6.5 };
const view = { prompt: 0, tokens: new Set(), least: 0, pinned: null, shown: null };

const nodeName = (node) => NAMES[GRAPH.dictionary[node]];
const nodeWords = (node, most) => wordsOf(nodeName(node), GRAPH.latent[node], most);
const nodeLabel = (node) => nodeName(node) + "/" + GRAPH.latent[node];
const measured = () => MEASURES[byId("measure").value];
const largest = (measure) => GRAPH.values[measure].reduce((most, value) => (value > most ? value : most), 1e-9);
const interval = (measure, edge) => (GRAPH.intervals[measure] ? "[" + fixed(GRAPH.intervals[measure][0][edge]) + ", " + fixed(GRAPH.intervals[measure][1][edge]) + "]" : "");
const tokenName = (at) => SHOWN.tokens[view.prompt][at];

// Latents that are lit at the chosen tokens, with their largest activation there, and how many are active in all.
const litNow = () => {
  const prompt = view.columns, lit = new Map();
  let [listed, active] = [0, 0];
  prompt.node.forEach((node, entry) => {
    if (!view.tokens.has(prompt.position[entry])) return;
    listed += 1;
    lit.set(node, Math.max(lit.get(node) ?? 0, prompt.activation[entry]));
  });
  const tokens = DATA.prompts[view.prompt].tokens.length;
  NAMES.forEach((_, place) => view.tokens.forEach((at) => { active += prompt.active[place * tokens + at]; }));
  return { lit, listed, active };
};

const edgesNow = (lit, measure) => {
  const values = GRAPH.values[measure], found = [];
  GRAPH.head.forEach((head, index) => { if (lit.has(head) && lit.has(GRAPH.tail[index])) found.push({ index, head, tail: GRAPH.tail[index], value: values[index] }); });
  return found;
};

// Where a measure begins: at what calibrates it, if enough of these lines reach that.
const beginLeast = () => {
  const measure = measured(), values = edgesNow(litNow().lit, measure).map((edge) => edge.value).filter((value) => value > 0).sort((a, b) => b - a);
  const calibrated = DATA.edge_thresholds[measure];
  const enough = calibrated !== undefined && values.filter((value) => value >= calibrated).length >= Math.min(12, values.length);
  view.least = enough ? Math.max(calibrated, values[250] ?? 0) : values[Math.min(59, values.length - 1)] ?? 0;
  // The slider stands on a step, and shows no more than it draws.
  const top = largest(measure);
  byId("least").value = Math.min(1000, Math.floor((1000 * view.least) / top));
  view.least = (top * Number(byId("least").value)) / 1000;
};

const drawPrompt = () => {
  const measure = measured(), { lit, listed, active } = litNow();
  const every = edgesNow(lit, measure), strong = every.filter((edge) => edge.value >= view.least && edge.value > 0);
  const shown = strong.sort((a, b) => b.value - a.value).slice(0, MOST_LINES);
  const joined = new Set(shown.flatMap((edge) => [edge.head, edge.tail]));
  const nodes = [...lit.keys()].filter((node) => byId("lonely").checked || joined.has(node)).sort((a, b) => a - b);
  const rowOf = (node) => GRAPH.dictionary[node];
  const place = byId("order").value === "vertical" ? verticalColumns : latentColumns;
  const columnOf = place(nodes, shown, rowOf);
  if (view.pinned !== null && !columnOf.has(view.pinned)) view.pinned = null;
  view.shown = { lit, edges: shown, nodes, columnOf, measure, touching: new Map(nodes.map((node) => [node, []])) };
  shown.forEach((edge) => { view.shown.touching.get(edge.head).push(edge); view.shown.touching.get(edge.tail).push(edge); });
  byId("least-output").textContent = measure === "mutual_information" ? view.least.toFixed(5) : view.least.toFixed(3);
  const calibrated = DATA.edge_thresholds[measure];
  const upright = shown.filter((edge) => columnOf.get(edge.head) === columnOf.get(edge.tail)).length;
  const unmeasured = every.filter((edge) => Number.isNaN(edge.value)).length, weak = every.length - strong.length - unmeasured;
  fill("graph-counts", make("b", {}, counted(nodes.length, "latent") + " and " + counted(shown.length, "line")), " shown, " + whole(upright) + " of them vertical. Not shown: ",
    [counted(lit.size - nodes.length, "lit latent") + (byId("lonely").checked ? "" : " without a line"), counted(weak, "pair") + " below " + byId("least-output").textContent,
      strong.length > shown.length ? counted(strong.length - shown.length, "weaker line") + " beyond " + whole(MOST_LINES) : null, unmeasured ? counted(unmeasured, "pair") + " without this measure" : null,
      counted(active - listed, "active latent") + " below " + percent(DATA.limits.relative) + " of their largest or beyond " + DATA.limits.latents + " of a dictionary",
      GRAPH.leftOut ? counted(GRAPH.leftOut, "pair") + " of all prompts beyond " + whole(DATA.limits.edges) : null].filter(Boolean).join("; ") + ". ",
    calibrated === undefined ? "Nothing calibrates " + plainly(measure) + "." : "Of all pairs from " + fixed(calibrated, measure === "mutual_information" ? 5 : 3) + " on, at most 5 % are expected by chance.");
  colourCommunities(nodes);
  drawGraph();
  drawGraphTables();
  light(view.pinned);
  drawPanel(view.pinned);
};

// The largest communities in sight have a colour each.
const colourCommunities = (nodes) => {
  const sizes = new Map();
  nodes.forEach((node) => { const own = GRAPH.community[node]; if (own >= 0) sizes.set(own, (sizes.get(own) ?? 0) + 1); });
  const ranked = [...sizes].sort(([a, x], [b, y]) => y - x || a - b);
  view.colour = new Map(ranked.slice(0, MOST_COLOURS).filter(([, size]) => size > 1).map(([community], at) => [community, "var(--c" + at + ")"]));
  const rest = nodes.filter((node) => !view.colour.has(GRAPH.community[node])).length;
  fill("community-legend", ...(DATA.communities.length ? [
    ...ranked.filter(([community]) => view.colour.has(community)).map(([community, size]) => make("button", { type: "button", class: "plain", "data-community": community, "aria-pressed": "false", onclick: (event) => lightCommunity(community, event.currentTarget) },
      make("i", { class: "swatch", style: "background: " + view.colour.get(community) }), " ", bdis(labelOf(0, community)) ?? "community " + community, make("small", {}, " " + whole(size)))),
    rest ? make("span", {}, make("i", { class: "swatch other" }), " in smaller communities, or none ", make("small", {}, whole(rest))) : null].filter(Boolean)
    : [make("span", { class: "note" }, "Communities were not computed: all is grey.")]));
};

const colourOf = (node) => view.colour.get(GRAPH.community[node]) ?? "var(--dot)";
const edgeColour = ({ head, tail }) => (GRAPH.community[head] === GRAPH.community[tail] ? colourOf(head) : "var(--faint)");

const drawGraph = () => {
  const { nodes, edges, columnOf, measure } = view.shown, rows = NAMES.length;
  const width = CELL.left + CELL.x * (Math.max(...columnOf.values(), 5) + 1.5), height = CELL.top + CELL.y * (rows - 1) + 26;
  const x = (node) => CELL.left + CELL.x * (columnOf.get(node) + 0.6), y = (node) => CELL.top + CELL.y * (rows - 1 - GRAPH.dictionary[node]);
  const top = largest(measure);
  const guides = NAMES.flatMap((name, place) => {
    const level = CELL.top + CELL.y * (rows - 1 - place), n = nodes.filter((node) => GRAPH.dictionary[node] === place).length;
    return [make("line", { class: "rule", x1: CELL.left - 4, x2: width, y1: level, y2: level }), make("text", { x: 2, y: level + 1 }, name), make("text", { class: "muted", x: 2, y: level + 14 }, counted(n, "latent"))];
  });
  // The strongest last, on top.
  const lines = [...edges].reverse().map((edge) => {
    const ends = { x1: x(edge.head), y1: y(edge.head), x2: x(edge.tail), y2: y(edge.tail) };
    const made = make("g", { class: "edge", "data-edge": edge.index }, make("line", { ...ends, class: "shown", style: `stroke: ${edgeColour(edge)}; stroke-width: ${(0.6 + 4 * Math.sqrt(edge.value / top)).toFixed(2)}` }), make("line", { ...ends, class: "grip" }));
    made.addEventListener("mousemove", (event) => tip(event, make("b", {}, nodeLabel(edge.head) + " → " + nodeLabel(edge.tail)), make("br"), plainly(measure) + " " + fixed(edge.value, 4) + " " + interval(measure, edge.index), make("br"), "c = " + whole(GRAPH.c[edge.index]) + ", n = " + whole(GRAPH.n[edge.index]) + ", m = " + whole(GRAPH.m[edge.index]) + " tokens"));
    made.addEventListener("mouseleave", untip);
    return made;
  });
  const dots = nodes.map((node) => {
    const label = nodeLabel(node), n = view.shown.touching.get(node).length;
    const dot = make("g", { class: "node", role: "button", tabindex: "-1", "data-node": node, transform: `translate(${x(node)},${y(node)})`, "aria-label": label + ", " + counted(n, "line") + ", words: " + (nodeWords(node).join(" ") || "none known"), "aria-pressed": "false" },
      make("circle", { class: "grip", r: 13 }), make("circle", { class: "dot", r: CELL.radius, style: "fill: " + colourOf(node) }));
    dot.addEventListener("mouseenter", (event) => { light(node); drawPanel(node); tip(event, make("b", {}, label), " ", bdis(nodeWords(node)) ?? ""); });
    dot.addEventListener("mouseleave", () => { untip(); light(view.pinned); drawPanel(view.pinned); });
    dot.addEventListener("click", (event) => { event.stopPropagation(); pin(view.pinned === node ? null : node); });
    dot.addEventListener("focus", () => { enter(node); light(node); drawPanel(node); });
    dot.addEventListener("keydown", (event) => nodeKey(event, node));
    return dot;
  });
  const drawing = make("svg", { id: "drawing", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Latents by dictionary, the first at the bottom; lines join related ones" }, ...guides, ...lines, ...dots);
  drawing.addEventListener("click", () => pin(null));
  fill("canvas", nodes.length ? drawing : make("p", { class: "empty" }, view.shown.lit.size ? "No lit latents are so alike. Move the slider to the left, choose other tokens, or show latents without an edge." : "No latent that was related lights up at this token. Choose another one."));
  view.dots = new Map(dots.map((dot) => [Number(dot.dataset.node), dot]));
  view.lines = lines;
  if (nodes.length) enter(view.pinned ?? nodes[0]);
};

// One latent is in the order of Tab at a time.
const enter = (node) => view.dots.forEach((dot, one) => dot.setAttribute("tabindex", one === node ? "0" : "-1"));

const nodeKey = (event, node) => {
  const { nodes, columnOf, touching } = view.shown, row = nodes.filter((one) => GRAPH.dictionary[one] === GRAPH.dictionary[node]).sort((a, b) => columnOf.get(a) - columnOf.get(b));
  const beside = row[row.indexOf(node) + { ArrowLeft: -1, ArrowRight: 1 }[event.key]];
  const up = touching.get(node).filter((edge) => edge.head === node).map((edge) => edge.tail), down = touching.get(node).filter((edge) => edge.tail === node).map((edge) => edge.head);
  // Without a line that way, the nearest latent of the next row there.
  const nearest = (direction) => nodes.filter((one) => direction * (GRAPH.dictionary[one] - GRAPH.dictionary[node]) > 0)
    .sort((a, b) => direction * (GRAPH.dictionary[a] - GRAPH.dictionary[b]) || Math.abs(columnOf.get(a) - columnOf.get(node)) - Math.abs(columnOf.get(b) - columnOf.get(node)))[0];
  const next = { ArrowLeft: beside, ArrowRight: beside, ArrowUp: up[0] ?? nearest(1), ArrowDown: down[0] ?? nearest(-1), Home: row[0], End: row.at(-1) }[event.key];
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(view.pinned === node ? null : node); }
  if (event.key === "Escape") pin(null);
  if (next === undefined) return;
  event.preventDefault();
  view.dots.get(next).focus();
};

const pin = (node) => { view.pinned = node; if (node !== null) enter(node); light(node); drawPanel(node); };

// A latent with its neighbours, and from these on through all that are in its community.
const reach = (node) => {
  const { touching } = view.shown, near = new Set([node]), lines = new Set(), own = GRAPH.community[node];
  const waiting = [node];
  while (waiting.length) {
    const here = waiting.pop();
    for (const edge of touching.get(here)) {
      const other = edge.head === here ? edge.tail : edge.head, within = own >= 0 && GRAPH.community[here] === own && GRAPH.community[other] === own;
      if (here !== node && !within) continue;
      lines.add(edge.index);
      if (near.has(other)) continue;
      near.add(other);
      if (within) waiting.push(other);
    }
  }
  return { near, lines };
};

const dim = (near, lines) => {
  byId("drawing")?.classList.toggle("tracing", near !== null);
  view.dots.forEach((dot, one) => dot.classList.toggle("near", near?.has(one) ?? false));
  view.lines.forEach((line) => line.classList.toggle("near", lines?.has(Number(line.dataset.edge)) ?? false));
};

const light = (node) => {
  const found = node === null ? null : reach(node);
  dim(found?.near ?? null, found?.lines ?? null);
  view.dots.forEach((dot, one) => { dot.classList.toggle("chosen", one === node); dot.setAttribute("aria-pressed", String(one === view.pinned)); });
  byId("community-legend").querySelectorAll("[aria-pressed]").forEach((button) => button.setAttribute("aria-pressed", "false"));
};

const lightCommunity = (community, button) => {
  const on = button.getAttribute("aria-pressed") !== "true";
  pin(null);
  if (!on) return;
  const near = new Set(view.shown.nodes.filter((node) => GRAPH.community[node] === community));
  dim(near, new Set(view.shown.edges.filter((edge) => near.has(edge.head) && near.has(edge.tail)).map((edge) => edge.index)));
  button.setAttribute("aria-pressed", "true");
};
