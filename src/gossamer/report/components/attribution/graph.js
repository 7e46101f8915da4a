// Pinned nodes as a graph: an edge where one is a listed term of another.
const pinKey = (item, index) => item + ":" + (index === undefined || state.prompt.ofLatent.get(item) === index ? "" : index);

const togglePin = (item, index) => {
  const key = pinKey(item, index), focused = root.activeElement?.dataset?.item;
  if (state.pins.has(key)) state.pins.delete(key); else state.pins.set(key, [item, index]);
  draw();
  if (focused) byId("terms").querySelector('[data-item="' + focused + '"]')?.focus({ preventScroll: true });
};

const edges = () => {
  const { prompt } = state, found = [], pins = [...state.pins.values()];
  for (const [parent, index] of pins) {
    if (index === undefined) continue;
    const one = prompt.of(index);
    for (const [child, below] of pins) {
      const at = one.items.indexOf(child);
      // Attention without a dictionary is taken apart for one parent only.
      if (at < 0 || (below !== undefined && prompt.opens(child, index) !== below)) continue;
      const heads = Array.from({ length: one.listed }, (_, k) => ({ head: one.heads[at * one.listed + k], contribution: one.by_head[at * one.listed + k] })).filter((part) => part.contribution !== 0);
      found.push({ source: pinKey(child, below), target: pinKey(parent, index), contribution: one.contributions[at], share: one.contributions[at] / one.value, heads });
    }
  }
  return found;
};

const NODE = { width: 118, height: 34, gap: 12, row: 92, left: 116, top: 26 };

const drawGraph = () => {
  const { prompt } = state, pins = [...state.pins].map(([key, [item, index]]) => ({ key, item, index }));
  byId("graph").hidden = !pins.length;
  byId("no-pins").hidden = Boolean(pins.length);
  if (!pins.length) return;
  const depth = (pin) => (prompt.kindOf(pin.item) === "root" ? Infinity : prompt.site[pin.item]);
  const where = (pin) => (prompt.kindOf(pin.item) === "root" ? prompt.tokens.length - 1 : prompt.position[pin.item]);
  const levels = [...new Set(pins.map(depth))].sort((a, b) => b - a), columns = [...new Set(pins.map(where))].sort((a, b) => a - b);
  const stacked = (level, place) => pins.filter((pin) => depth(pin) === level && where(pin) === place);
  const widths = columns.map((place) => Math.max(...levels.map((level) => stacked(level, place).length)));
  let x = NODE.left;
  const lefts = widths.map((width) => { const left = x; x += width * (NODE.width + NODE.gap) + 14; return left; });
  const spots = new Map();
  levels.forEach((level, r) => columns.forEach((place, c) => stacked(level, place).forEach((pin, at, row) => {
    const slack = (widths[c] - row.length) * (NODE.width + NODE.gap) / 2;
    spots.set(pin.key, { x: lefts[c] + slack + at * (NODE.width + NODE.gap), y: NODE.top + r * NODE.row });
  })));
  const height = NODE.top + (levels.length - 1) * NODE.row + NODE.height + 34;
  const found = edges(), lines = found.map((edge) => {
    const [from, to] = [spots.get(edge.source), spots.get(edge.target)];
    const [x1, y1, x2, y2] = [from.x + NODE.width / 2, from.y, to.x + NODE.width / 2, to.y + NODE.height];
    const middle = (y1 + y2) / 2, sign = edge.contribution < 0 ? "neg" : "pos";
    return make("g", { class: "edge " + sign },
      make("path", { d: `M${x1},${y1} C${x1},${middle} ${x2},${middle} ${x2},${y2}`, "stroke-width": (1 + 6 * Math.min(1, Math.abs(edge.share))).toFixed(1) }, make("title", {}, signed(edge.contribution) + ", " + percent(edge.share))),
      make("text", { x: (x1 + x2) / 2, y: middle + 4, "text-anchor": "middle" }, percent(edge.share) + (edge.heads.length ? " h" + edge.heads[0].head : "")));
  });
  const boxes = pins.map((pin) => {
    const spot = spots.get(pin.key), label = prompt.full(pin.item);
    const box = make("g", { class: "pinned", role: "button", tabindex: "0", "aria-label": label + ": Enter opens, Delete unpins", transform: `translate(${spot.x},${spot.y})` },
      make("title", {}, label), make("rect", { width: NODE.width, height: NODE.height, rx: 4 }),
      make("text", { x: NODE.width / 2, y: 14, "text-anchor": "middle" }, cut(prompt.kindOf(pin.item) === "root" ? "start" : prompt.name(pin.item), 19)),
      make("text", { x: NODE.width / 2, y: 27, "text-anchor": "middle", class: "muted" }, pin.index === undefined ? "ends here" : number(prompt.of(pin.index).value)));
    box.addEventListener("click", () => { if (pin.index !== undefined) begin(pin.index); });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && pin.index !== undefined) begin(pin.index);
      if (event.key === "Delete" || event.key === "Backspace") { event.preventDefault(); togglePin(pin.item, pin.index); byId("drawing").querySelector(".pinned")?.focus(); }
    });
    return box;
  });
  const rows = levels.map((level, r) => make("text", { x: 4, y: NODE.top + r * NODE.row + 21, class: "muted" }, level === Infinity ? "start" : prompt.raw.items.sites[level] ?? "biases"));
  const names = columns.map((place, c) => make("text", { x: lefts[c] + (widths[c] * (NODE.width + NODE.gap) - NODE.gap) / 2, y: height - 8, "text-anchor": "middle", class: "mono" }, cut(prompt.at(place), 18)));
  const drawing = make("svg", { id: "drawing", width: x, height, viewBox: `0 0 ${x} ${height}`, role: "group", "aria-label": "Pinned nodes; layers upwards, tokens across" }, ...rows, ...names, ...lines, ...boxes);
  byId("canvas").replaceChildren(drawing);
  const of = (key) => { const [item] = state.pins.get(key); return prompt.full(item); };
  fill("edges", make("thead", {}, make("tr", {}, ...["from", "to", "most by", "adds", "share"].map((name, at) => make("th", { scope: "col", class: at > 2 ? "n" : "" }, name)))),
    make("tbody", {}, ...found.map((edge) => make("tr", {}, make("td", {}, of(edge.source)), make("td", {}, of(edge.target)), make("td", {}, edge.heads.length ? "head " + edge.heads[0].head + " " + signed(edge.heads[0].contribution) : ""), make("td", { class: "n" }, signed(edge.contribution)), make("td", { class: "n" }, percent(edge.share)))),
      ...pins.filter((pin) => pin.index !== undefined).map((pin) => {
        const one = prompt.of(pin.index), known = sum(found.filter((edge) => edge.target === pin.key).map((edge) => edge.contribution));
        return make("tr", {}, make("td", { class: "note" }, "biases and everything that is not pinned"), make("td", {}, prompt.full(pin.item)), make("td"), make("td", { class: "n" }, signed(one.value - known)), make("td", { class: "n" }, percent(1 - known / one.value)));
      })));
};

const exportGraph = () => download("graph.json", {
  ...head("gossamer.attribution_graph.1"),
  nodes: [...state.pins].map(([id, [item, index]]) => ({ id, ...described(item, index) })),
  edges: edges(),
});
