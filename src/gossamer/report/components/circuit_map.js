// @ts-check
/**
 * A circuit as a map to walk through: sites up, roles across, a box a node, edges between them.
 *
 * One file without dependencies, for a page, a notebook or an application alike:
 *
 *     import { mountCircuitMap } from "./circuit_map.js";
 *     const map = mountCircuitMap(element, data, { onFocus: (box) => ... });
 *
 * Everything stands in a shadow root with a constructed style sheet (no inline style: a strict Content-Security-Policy
 * allows it), and all data become text nodes, never markup. Colours follow the `color-scheme` of the page around, or
 * `options.theme`. Children of the element are shown as the table twin; without a script they are all there is.
 *
 * @typedef {{id: string, label: string, tokens?: string[], counterfactual?: string[], passed?: boolean}} Column
 * @typedef {{id: string, index: number, row: number, column: number, name: string, words: string[], latent: number | null,
 *   kind: "latent" | "error", effect: number | null, direct: number | null, activation: number | null,
 *   ablated: number | null, recurrence: number | null, href: string | null}} MapNode
 * @typedef {{layer: number, head: number, weight: number}} HeadShare
 * @typedef {{source: string, target: string, weight: number, influence: number | null, direct: number | null,
 *   heads: HeadShare[], others: number}} MapEdge  Ids of nodes; a target may be the metric's id. Heads: the strongest; `others`: the rest.
 * @typedef {{id: string, label: string, nodes: string[], effect: number | null}} MapGroup  Two nodes or more, of one row.
 * @typedef {{format: string, metric: {id: string, label: string, unit: string}, rows: string[], columns: Column[],
 *   nodes: MapNode[], edges: MapEdge[], groups: MapGroup[]}} MapData  `rows` from the first site to the last.
 * @typedef {{id: string, row: number, column: number, title: string, small: string, nodes: MapNode[],
 *   group: MapGroup | null, effect: number | null, kind: string}} Box  One node, a folded group, or the metric.
 * @typedef {{source: string, target: string, size: number, raises: boolean, influence: number, edges: MapEdge[]}} Line  Edges
 *   between two boxes: of one, `raises` is the sign of its weight; of several, of the influence that they have together.
 * @typedef {{theme?: "light" | "dark", folded?: boolean, edges?: number, onFocus?: (box: Box | null) => void}} Options
 */

import { number, visible } from "./text.js";

export const FORMAT = "gossamer.circuit-map.1";
const BOX = { height: 36, gap: 4, least: 80, good: 112, most: 178 };
const PAD = 7, NAME = 17, LANE = 26, EMPTY = 34, LABELS = 8, EDGES = 60, LISTED = 40;

const KEYS = [
  ["← →", "the next box, row by row"], ["↑", "along the strongest edge to where it leads"],
  ["↓", "along the strongest edge to where it comes from"], ["Home End", "the first and the last box"],
  ["Enter", "keep this box chosen while pointing elsewhere"], ["G", "fold its group into one box, or unfold it"],
  ["Escape", "choose none"],
];

// An error node is a hexagon of two layers; its outline, transparent otherwise, is what forced colours leave of both.
const CSS = `
:host { display: block; --ink: light-dark(#1c2128, #e4e8ec); --muted: light-dark(#59626e, #a0a9b4); --faint: light-dark(#9aa3ad, #69727d);
  --rule: light-dark(#e3e7eb, #333b45); --wash: light-dark(#f5f7f9, #1d232a); --paper: light-dark(#fff, #14181d);
  --raises: light-dark(#1a5ba6, #6cb0ff); --lowers: light-dark(#b84c14, #ff9a5c); --focus: light-dark(#8a3ffc, #be95ff);
  color: var(--ink); font: 13px/1.45 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; }
:host([data-theme="light"]) { color-scheme: light; } :host([data-theme="dark"]) { color-scheme: dark; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
p, ul, h3, h4, table { margin: 0; padding: 0; }
.map { background: var(--paper); overflow-wrap: anywhere; }
.tools { display: flex; flex-wrap: wrap; gap: .35rem .9rem; align-items: center; margin-bottom: .5rem; }
.tools label { display: flex; align-items: center; gap: .4rem; }
.tools input { width: 9rem; accent-color: var(--raises); margin: 0; }
output, .muted { color: var(--muted); }
button { font: inherit; color: inherit; }
.tools button, .panel .act { background: var(--wash); border: 1px solid var(--faint); border-radius: 4px; padding: .1rem .55rem; cursor: pointer; }
.tools button:hover, .panel .act:hover { border-color: var(--ink); }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 1px; }
.keys { columns: 2 19rem; list-style: none; color: var(--muted); margin-bottom: .5rem; font-size: 12.5px; }
kbd { font: 11.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; border: 1px solid var(--rule); border-radius: 3px; padding: 0 .25rem; color: var(--ink); }
.scroll { overflow-x: auto; border-block: 1px solid var(--rule); }
.canvas { position: relative; }
svg { position: absolute; inset: 0; pointer-events: none; overflow: visible; }
path { fill: none; stroke-linecap: round; opacity: .5; }
path.raises { stroke: var(--raises); } path.lowers { stroke: var(--lowers); }
.tracing path { opacity: .05; } .tracing path.near { opacity: .9; }
line { stroke: var(--rule); }
svg rect { fill: var(--paper); }
svg text { font: 600 10.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; paint-order: stroke; stroke: var(--paper); stroke-width: 3.5px; stroke-linejoin: round; }
text.raises { fill: var(--raises); } text.lowers { fill: var(--lowers); }
.row, .column { position: absolute; color: var(--muted); font-size: 11px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.row { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; z-index: 1; }
.column { text-align: center; padding: 3px 2px 0; }
.column b { color: var(--ink); display: block; overflow: hidden; text-overflow: ellipsis; }
.column.none b { font-weight: 400; color: var(--muted); }
.column span { display: block; overflow: hidden; text-overflow: ellipsis; font: 10.5px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.column .other { color: var(--lowers); }
.box { position: absolute; display: block; text-align: left; padding: 1px 5px; border: 1px solid var(--edge); border-radius: 5px; cursor: pointer; overflow: hidden;
  --edge: var(--faint); --fill: color-mix(in srgb, var(--raises) var(--share, 0%), var(--paper)); background: var(--fill); line-height: 1.3; }
.box.loses { --fill: color-mix(in srgb, var(--lowers) var(--share, 0%), var(--paper)); }
.box b, .box i { display: block; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; font-style: normal; }
.box b { font-weight: 600; font-size: 12px; } .box i { font-size: 10.5px; }
.box.metric { --fill: var(--wash); --edge: var(--ink); }
.box.error { --cut: 9px; border: 0; padding: 2px 10px; background: none; isolation: isolate; outline: 1px solid transparent; } .box.error b { font-style: italic; }
.box.error::before, .box.error::after { content: ""; position: absolute; inset: 0; z-index: -1; background: var(--edge);
  clip-path: polygon(0 50%, var(--cut) 0, calc(100% - var(--cut)) 0, 100% 50%, calc(100% - var(--cut)) 100%, var(--cut) 100%); }
.box.error::after { inset: 1px; background: var(--fill); }
.box.group { border-width: 2px; border-style: double; --edge: var(--muted); }
.box.lit, .box:hover { --edge: var(--ink); }
.tracing .box:not(.near) { --fill: var(--paper); --edge: var(--rule); } .tracing .box:not(.near) * { color: var(--muted); font-weight: 400; }
.box.chosen { outline: 2px solid var(--focus); outline-offset: 0; }
.box.error:is(.chosen, :focus-visible) { outline: 2px solid transparent; --edge: var(--focus); }
.box.error:is(.chosen, :focus-visible)::after { inset: 2px; }
.panel { min-height: 9.5rem; padding: .5rem .7rem; background: var(--wash); margin-top: .4rem; }
.panel h3 { font-size: 14px; } .panel h4 { font-weight: 400; font-size: 12.5px; color: var(--muted); }
.panel .head { display: flex; flex-wrap: wrap; gap: .2rem .7rem; align-items: baseline; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .3rem 1.6rem; margin-top: .3rem; }
.sides ul { list-style: none; max-height: 12rem; overflow-y: auto; }
.sides li { padding: .06rem 0; }
.sides li b { font-variant-numeric: tabular-nums; } b.raises { color: var(--raises); } b.lowers { color: var(--lowers); }
.sides button { background: none; border: 0; padding: 0; color: var(--raises); cursor: pointer; text-align: left; }
.sides button:hover { text-decoration: underline; }
a { color: var(--raises); }
small { color: var(--muted); font-size: .88em; }
bdi { unicode-bidi: isolate; }
details { margin-top: .4rem; } summary { cursor: pointer; color: var(--muted); }
.tables { overflow: auto; max-height: 24rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 12.5px; margin-top: .4rem; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--rule); } th { color: var(--muted); font-weight: 400; }
`;

/** @param {MapEdge} edge */
const strength = (edge) => edge.influence ?? edge.weight;
/** @template T @param {T[]} values @param {(value: T) => number} of */
const total = (values, of) => values.reduce((sum, value) => sum + of(value), 0);
/** @param {number | null} value */
const known = (value) => (value !== null && Number.isFinite(value) ? value : 0);

/** The boxes to draw when some groups are folded, the strongest first within a cell.
 * @param {MapData} data @param {Set<string>} folded @returns {Box[]} */
export function boxesOf(data, folded) {
  const byId = new Map(data.nodes.map((node) => [node.id, node]));
  const hidden = new Set();
  /** @type {Box[]} */
  const boxes = [];
  for (const group of data.groups.filter((one) => folded.has(one.id))) {
    const nodes = group.nodes.flatMap((id) => byId.get(id) ?? []).sort((a, b) => Math.abs(known(b.effect)) - Math.abs(known(a.effect)));
    if (!nodes.length) continue;
    nodes.forEach((node) => hidden.add(node.id));
    const columns = new Set(nodes.map((node) => node.column)).size;
    const small = `${nodes.length} nodes${columns > 1 ? ` at ${columns} roles` : ""}`;
    boxes.push({ id: group.id, row: nodes[0].row, column: nodes[0].column, title: group.label, small, nodes, group, effect: group.effect, kind: "group" });
  }
  for (const node of data.nodes.filter((one) => !hidden.has(one.id))) {
    const group = data.groups.find((one) => one.nodes.includes(node.id)) ?? null;
    const arrow = known(node.direct) > 0 ? "▲ " : known(node.direct) < 0 ? "▼ " : "";
    const small = arrow + (node.latent === null ? node.kind : String(node.latent));
    boxes.push({ id: node.id, row: node.row, column: node.column, title: node.words.join(" · ") || node.name, small, nodes: [node], group, effect: node.effect, kind: node.kind });
  }
  return boxes.sort((a, b) => Math.abs(known(b.effect)) - Math.abs(known(a.effect)));
}

/** Edges between the boxes, the strongest first; edges inside a folded group are counted.
 * @param {MapData} data @param {Box[]} boxes @returns {{lines: Line[], inside: number}} */
export function linesOf(data, boxes) {
  const owner = new Map(boxes.flatMap((box) => box.nodes.map((node) => [node.id, box.id])));
  owner.set(data.metric.id, data.metric.id);
  /** @type {Map<string, Line>} */
  const lines = new Map();
  let inside = 0;
  for (const edge of data.edges) {
    const [source, target] = [owner.get(edge.source), owner.get(edge.target)];
    if (source === undefined || target === undefined) continue;
    if (source === target) { inside += 1; continue; }
    const key = JSON.stringify([source, target]);
    const line = lines.get(key) ?? { source, target, size: 0, raises: true, influence: 0, edges: [] };
    lines.set(key, line);
    line.edges.push(edge);
  }
  for (const line of lines.values()) {
    line.influence = total(line.edges, strength);
    line.size = Math.abs(line.influence);
    // Weights into several nodes have no common unit; what they carry on has.
    line.raises = (line.edges.length > 1 ? line.influence : line.edges[0].weight) >= 0;
    line.edges.sort((a, b) => Math.abs(strength(b)) - Math.abs(strength(a)));
  }
  return { lines: [...lines.values()].sort((a, b) => b.size - a.size), inside };
}

/** Where everything goes: columns as wide as the room allows, neighbouring columns without boxes as one.
 * @param {MapData} data @param {Box[]} boxes @param {number} width */
export function placesOf(data, boxes, width) {
  /** @type {{columns: number[], cells: Map<number, Box[]>, abreast: number, x: number, width: number}[]} */
  const columns = [];
  data.columns.forEach((_, index) => {
    const cells = new Map();
    for (const box of boxes.filter((one) => one.column === index)) cells.set(box.row, [...(cells.get(box.row) ?? []), box]);
    const last = columns.at(-1);
    if (!cells.size && last && !last.cells.size) last.columns.push(index);
    else columns.push({ columns: [index], cells, abreast: cells.size ? 1 : 0, x: 0, width: 0 });
  });
  /** @param {number} each */
  const wide = (each) => total(columns, (one) => 2 * PAD + (one.abreast ? one.abreast * (each + BOX.gap) : EMPTY));
  /** @param {typeof columns[number]} one */
  const tall = (one) => Math.max(0, ...[...one.cells.values()].map((cell) => Math.ceil(cell.length / one.abreast)));
  const good = width < 640 ? BOX.least : BOX.good;
  for (;;) {
    const highest = [...columns].sort((a, b) => tall(b) - tall(a))[0];
    if (!highest || tall(highest) < 2 || wide(good) + good + BOX.gap > width) break;
    highest.abreast += 1;
  }
  const across = Math.max(1, total(columns, (one) => one.abreast));
  const each = Math.floor(Math.max(BOX.least, Math.min(BOX.most, BOX.least + (width - wide(BOX.least)) / across)));
  let x = 0;
  for (const one of columns) {
    one.x = x;
    one.width = 2 * PAD + (one.abreast ? one.abreast * (each + BOX.gap) : EMPTY);
    x += one.width;
  }
  /** @type {Map<string, {x: number, y: number, width: number}>} */
  const places = new Map();
  const metricWidth = Math.min(200, Math.max(width, x) - 2 * PAD);
  places.set(data.metric.id, { x: Math.min(Math.max(width, x), x) - metricWidth - PAD, y: PAD, width: metricWidth });
  const rows = [];
  let y = PAD + BOX.height + LANE;
  for (let row = data.rows.length - 1; row >= 0; row -= 1) {
    const lines = Math.max(0, ...columns.map((one) => Math.ceil((one.cells.get(row)?.length ?? 0) / Math.max(1, one.abreast))));
    rows.push({ row, y });
    for (const one of columns) {
      one.cells.get(row)?.forEach((box, k) => places.set(box.id, {
        x: one.x + PAD + (k % one.abreast) * (each + BOX.gap), y: y + NAME + Math.floor(k / one.abreast) * (BOX.height + BOX.gap), width: each,
      }));
    }
    y += NAME + lines * (BOX.height + BOX.gap) + (lines ? LANE : PAD);
  }
  return { columns, places, rows, width: x, bottom: y };
}

/**
 * Draw a circuit into an element.
 *
 * @param {HTMLElement} host
 * @param {MapData} data
 * @param {Options} [options]
 * @returns {{focus: (id: string | null) => void, light: (index: number, on: boolean) => void, fold: (on: boolean) => void,
 *   update: (data: MapData) => void, destroy: () => void}}
 */
export function mountCircuitMap(host, data, options = {}) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(CSS);
  root.adoptedStyleSheets = [sheet];
  if (options.theme) host.dataset.theme = options.theme;

  /** @param {string} name @param {Record<string, unknown>} [properties] @param {(Node | string)[]} children */
  const make = (name, properties = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, String(value));
      else Object.assign(element, { [key]: value });
    }
    element.append(...children);
    return element;
  };
  /** @param {string} name @param {Record<string, string | number>} attributes */
  const draw = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    return element;
  };
  /** @param {unknown} text */
  const word = (text) => make("bdi", { textContent: visible(text) });

  let folded = new Set(options.folded ? data.groups.map((group) => group.id) : []);
  let chosen = /** @type {string | null} */ (null);
  let kept = false;
  let drawn = options.edges ?? EDGES;
  let width = 0;
  let boxes = /** @type {Box[]} */ ([]), lines = /** @type {Line[]} */ ([]), inside = 0;
  let places = /** @type {Map<string, {x: number, y: number, width: number}>} */ (new Map());
  let elements = /** @type {Map<string, HTMLElement>} */ (new Map());

  const slider = /** @type {HTMLInputElement} */ (make("input", { type: "range", min: "0", "aria-label": "edges drawn" }));
  const said = make("output", { "aria-live": "off" });
  const foldAll = make("button", { type: "button" });
  const help = make("button", { type: "button", textContent: "Keys", "aria-expanded": "false" });
  const keys = make("ul", { className: "keys", hidden: true }, ...KEYS.map(([key, does]) => make("li", {}, make("kbd", { textContent: key }), ` ${does}`)));
  const tools = make("div", { className: "tools" }, make("label", {}, "Edges ", slider), said, foldAll, help);
  const svg = draw("svg", { "aria-hidden": "true" });
  const canvas = make("div", { className: "canvas", role: "group", "aria-label": "The circuit: sites up, roles across. Arrow keys go from node to node." });
  const scroll = make("div", { className: "scroll" }, canvas);
  const panel = make("div", { className: "panel", role: "region", "aria-label": "Edges of the chosen node" });
  const twin = make("div", { className: "tables", tabIndex: 0, role: "region", "aria-label": "The map as a table" });
  const details = make("details", {}, make("summary", { textContent: "The map as a table" }), twin);
  root.replaceChildren(make("div", { className: "map" }, tools, keys, scroll, panel, details));

  /** @param {string} id */
  const boxOf = (id) => boxes.find((box) => box.id === id);
  /** @param {string} id @returns {Box} */
  const metricOr = (id) => boxOf(id) ?? { id: data.metric.id, row: data.rows.length, column: -1, title: data.metric.label, small: data.metric.unit, nodes: [], group: null, effect: null, kind: "metric" };
  /** @param {Box} box */
  const placeOf = (box) => {
    if (box.kind === "metric") return "";
    const roles = [...new Set(box.nodes.map((node) => data.columns[node.column].label))];
    return `${data.rows[box.row]} ${roles.slice(0, 3).join(", ")}${roles.length > 3 ? ` and ${roles.length - 3} more` : ""}`;
  };
  /** @param {Box} box */
  const whereOf = (box) => (box.kind === "metric" ? "" : `${placeOf(box)} ${box.small.replace(/^[▲▼] /, "")}`);
  /** @param {string} id @param {"source" | "target"} end */
  const linesAt = (id, end) => lines.filter((line) => line[end] === id);

  const render = () => {
    const room = Math.floor(scroll.clientWidth) || 900;
    width = room;
    boxes = boxesOf(data, folded);
    ({ lines, inside } = linesOf(data, boxes));
    const found = placesOf(data, boxes, room);
    places = found.places;
    const whole = Math.max(room, found.width);
    elements = new Map();
    const largest = Math.max(0, ...boxes.map((box) => Math.abs(known(box.effect)))) || 1;
    const parts = /** @type {HTMLElement[]} */ ([]);
    for (const { row, y } of found.rows) parts.push(at(make("div", { className: "row", title: visible(data.rows[row]) }, word(data.rows[row])), 4, y, Math.min(200, room - 8)));
    for (const one of found.columns) parts.push(at(columnHead(one.columns.map((index) => data.columns[index]), one.cells.size > 0), one.x, found.bottom, one.width));
    const order = [metricOr(data.metric.id), ...boxes].sort((a, b) => {
      const [p, q] = [/** @type {any} */ (places.get(a.id)), /** @type {any} */ (places.get(b.id))];
      return b.row - a.row || p.y - q.y || p.x - q.x;
    });
    for (const box of order) {
      const element = boxElement(box, largest);
      elements.set(box.id, element);
      parts.push(element);
    }
    canvas.replaceChildren(svg, ...parts);
    const deepest = Math.max(0, ...[...canvas.querySelectorAll(".column")].map((one) => one.scrollHeight));
    canvas.style.width = `${whole}px`;
    canvas.style.height = `${found.bottom + deepest + 4}px`;
    for (const [key, value] of Object.entries({ width: whole, height: found.bottom, viewBox: `0 0 ${whole} ${found.bottom}` })) svg.setAttribute(key, String(value));
    slider.max = String(lines.length);
    slider.value = String(Math.min(drawn, lines.length));
    foldAll.hidden = !data.groups.length;
    foldAll.textContent = folded.size ? `Unfold ${folded.size} groups` : `Fold into ${data.groups.length} groups`;
    if (chosen !== null && !elements.has(chosen)) chosen = null;
    tellTable();
    show();
  };

  /** @param {HTMLElement} element @param {number} x @param {number} y @param {number} wide */
  const at = (element, x, y, wide) => {
    Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${wide}px` });
    return element;
  };

  /** @param {Column[]} columns @param {boolean} filled */
  const columnHead = (columns, filled) => {
    const names = columns.map((one) => one.label).join(" ");
    const head = make("div", { className: filled ? "column" : "column none", title: visible(names) }, make("b", {}, word(filled || columns.length === 1 ? names : "…")));
    const tokens = columns.flatMap((one) => one.tokens ?? []), others = columns.flatMap((one) => one.counterfactual ?? []);
    const few = filled ? tokens.slice(0, 4) : tokens.slice(0, 1);
    head.append(...few.map((token) => make("span", { title: visible(tokens.join(" ")) }, word(token))));
    if (tokens.length > few.length) head.append(make("span", { textContent: `+${tokens.length - few.length}`, title: visible(tokens.join(" ")) }));
    if (filled) head.append(...others.slice(0, 2).map((token) => make("span", { className: "other", title: "in the counterfactual" }, word(token))));
    return head;
  };

  /** @param {Box} box @param {number} largest */
  const boxElement = (box, largest) => {
    const place = /** @type {{x: number, y: number, width: number}} */ (places.get(box.id));
    // Begins with what is seen, so that who speaks to a machine can say it.
    const name = [`${box.title} ${box.small}`, placeOf(box), box.effect === null ? "" : `effect ${number(box.effect, true)}`].filter(Boolean).map(visible).join("; ");
    const element = make("button", { type: "button", className: `box ${box.kind}${known(box.effect) < 0 ? " loses" : ""}`, title: name, "aria-label": name },
      make("b", {}, word(box.title)), " ", make("i", {}, word(box.small)));
    at(element, place.x, place.y, place.width);
    element.style.height = `${BOX.height}px`;
    element.style.setProperty("--share", `${Math.round(45 * Math.sqrt(Math.abs(known(box.effect)) / largest))}%`);
    element.addEventListener("pointerenter", (event) => { if (!kept && event.pointerType === "mouse") choose(box.id); });
    element.addEventListener("focus", () => { if (box.id !== chosen) { kept = false; choose(box.id); } });
    element.addEventListener("click", () => { kept = !(kept && chosen === box.id); choose(box.id); });
    return element;
  };

  /** @param {string | null} id */
  const choose = (id) => {
    if (id === chosen) return;
    chosen = id;
    show();
    options.onFocus?.(id === null ? null : metricOr(id));
    host.dispatchEvent(new CustomEvent("circuit-focus", { bubbles: true, composed: true, detail: { id, indices: id === null ? [] : metricOr(id).nodes.map((node) => node.index) } }));
  };

  /** What is drawn and said of the chosen box and of the slider. */
  const show = () => {
    const count = Number(slider.value), largest = lines[0]?.size || 1;
    const near = new Set(chosen === null ? [] : [chosen]);
    const parts = /** @type {Element[]} */ ([]), labels = /** @type {Line[]} */ ([]);
    for (const [rank, line] of [...lines.entries()].reverse()) {
      const mine = chosen !== null && (line.source === chosen || line.target === chosen);
      if (mine) { near.add(line.source).add(line.target); labels.unshift(line); }
      if (rank >= count && !mine) continue;
      parts.push(draw("path", { d: curve(line).d, class: `${line.raises ? "raises" : "lowers"}${mine ? " near" : ""}`, "stroke-width": (0.8 + 4.2 * Math.sqrt(line.size / largest)).toFixed(2) }));
    }
    svg.replaceChildren(...parts, ...(labels.length > LABELS ? [] : labelled(labels)));
    canvas.classList.toggle("tracing", chosen !== null);
    const first = chosen ?? elements.keys().next().value;
    for (const [id, element] of elements) {
      element.classList.toggle("near", near.has(id));
      element.classList.toggle("chosen", id === chosen);
      element.tabIndex = id === first ? 0 : -1;
      if (id === chosen) element.setAttribute("aria-current", "true"); else element.removeAttribute("aria-current");
    }
    const least = count ? ` (|influence| at least ${number(lines[count - 1]?.size)} ${data.metric.unit})` : "";
    said.textContent = lines.length ? `${count} of ${lines.length} drawn${count < lines.length ? least : ""}, ${lines.length - count} hidden${inside ? `, ${inside} more inside groups` : ""}` : "no edges were measured";
    slider.setAttribute("aria-valuetext", said.textContent);
    tell();
  };

  /** @param {Line} line */
  const curve = (line) => {
    const [from, to] = [/** @type {any} */ (places.get(line.source)), /** @type {any} */ (places.get(line.target))];
    const [x0, y0, x1, y1] = [from.x + from.width / 2, from.y, to.x + to.width / 2, to.y + BOX.height];
    const bend = Math.max(16, (y0 - y1) / 2);
    return { d: `M${x0} ${y0}C${x0} ${y0 - bend} ${x1} ${y1 + bend} ${x1} ${y1}`, x0, y0, x1, y1, bend };
  };

  /** The head that carried most of a line, where one carried more than stayed at its token. @param {Line} line */
  const headOf = (line) => {
    const edge = line.edges[0], head = edge.heads[0];
    return head && Math.abs(head.weight) > Math.abs(edge.direct ?? 0) ? `${head.layer}.${head.head}` : "";
  };

  /** Weights and heads near the ends that are not the chosen box; where two would touch, the stronger one's alone.
   * @param {Line[]} found */
  const labelled = (found) => {
    const written = /** @type {{x: number, y: number, end: number}[]} */ ([]), parts = [];
    for (const line of found) {
      const { x0, y0, x1, y1, bend } = curve(line), t = line.target === chosen ? 0.3 : 0.7;
      /** @param {number} p @param {number} q @param {number} r @param {number} s */
      const along = (p, q, r, s) => p * (1 - t) ** 3 + 3 * q * t * (1 - t) ** 2 + 3 * r * t * t * (1 - t) + s * t ** 3;
      const text = [number(line.edges.length > 1 ? line.influence : line.edges[0].weight, true), headOf(line)].filter(Boolean).join(" · ");
      const [x, y] = [along(x0, x0, x1, x1) + 5, along(y0, y0 - bend, y1 + bend, y1) + 3], end = x + 6.4 * text.length;
      if (written.some((other) => Math.abs(other.y - y) < 12 && x < other.end && other.x < end)) continue;
      written.push({ x, y, end });
      const label = draw("text", { x, y, class: line.raises ? "raises" : "lowers" });
      label.textContent = text;
      // Paper behind the whole of it: a halo leaves lines to be seen between the letters.
      parts.push(draw("rect", { x: x - 2, y: y - 9, width: end - x + 4, height: 12 }), label);
    }
    return parts;
  };

  /** What a line is made of, in words. @param {Line} line */
  const partsOf = (line) => {
    if (line.edges.length > 1) return `carried to the metric by ${line.edges.length} edges together, the strongest ${headOf(line) ? `through head ${headOf(line)}` : "at its token"}`;
    const edge = line.edges[0];
    const parts = edge.heads.map((one) => ({ name: `head ${one.layer}.${one.head}`, weight: one.weight }));
    if (edge.others) parts.push({ name: "other heads", weight: edge.others });
    if (edge.direct !== null) parts.push({ name: "same token", weight: edge.direct });
    const shown = parts.filter((one) => Math.abs(one.weight) > 0.02 * Math.abs(edge.weight)).sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
    const carried = edge.target === data.metric.id || edge.influence === null ? "" : `carries ${number(edge.influence, true)} to the metric`;
    return [carried, shown.map((one) => `${one.name} ${number(one.weight, true)}`).join(", ")].filter(Boolean).join("; ");
  };

  /** @param {string} title @param {Line[]} found @param {"source" | "target"} end */
  const side = (title, found, end) => {
    const items = found.slice(0, LISTED).map((line) => {
      const other = metricOr(line[end]);
      const go = make("button", { type: "button" }, word(other.title), " ", make("small", {}, word(whereOf(other))));
      go.addEventListener("click", () => { kept = true; choose(other.id); elements.get(other.id)?.focus({ preventScroll: true }); });
      const value = number(line.edges.length > 1 ? line.influence : line.edges[0].weight, true);
      return make("li", {}, make("b", { className: line.raises ? "raises" : "lowers", textContent: value }), " ", go, " ", make("small", { textContent: partsOf(line) }));
    });
    const more = found.length > LISTED ? [make("p", { className: "muted", textContent: `and ${found.length - LISTED} weaker ones` })] : [];
    const none = found.length ? [] : [make("p", { className: "muted", textContent: "none among the strongest, which were kept" })];
    return make("div", {}, make("h4", { textContent: title }), make("ul", {}, ...items), ...more, ...none);
  };

  /** The panel: what is known of the chosen box, and its edges. */
  const tell = () => {
    if (chosen === null) {
      const raises = make("b", { className: "raises", textContent: "blue" }), lowers = make("b", { className: "lowers", textContent: "orange" });
      panel.replaceChildren(make("p", { className: "muted" }, "Point at a box, or reach it with the Tab key, for its numbers and all of its edges; arrow keys go on along the strongest. An edge is ",
        raises, " where it raises its target and ", lowers, ` where it lowers it, and as wide as what it carries on to the ${visible(data.metric.label)}; edges of a folded group count by what they carry together. A box is the deeper, the more is lost without it.${data.nodes.some((node) => node.kind === "error") ? " A box with pointed ends is an error node: what a dictionary leaves out there." : ""}`));
      return;
    }
    const box = metricOr(chosen);
    const head = make("div", { className: "head", "aria-live": "polite" }, make("h3", {}, word(box.title)), make("span", { className: "muted" }, word(whereOf(box))));
    if (box.nodes.length === 1 && box.kind !== "group") head.append(...facts(box.nodes[0]));
    if (box.kind === "group") head.append(make("span", { textContent: `effect when ablated as one ${number(box.effect, true)}` }));
    if (box.group) {
      const group = box.group;
      const act = make("button", { type: "button", className: "act" }, folded.has(group.id) ? "Unfold" : "Fold its group: ", ...(folded.has(group.id) ? [] : [word(group.label)]));
      act.addEventListener("click", () => toggle(group.id));
      head.append(act);
    }
    const members = box.kind === "group" ? [make("p", { className: "muted" }, "made of ", ...box.nodes.flatMap((node, k) => [k ? ", " : "", word(`${node.words[0] ?? node.name} (${data.columns[node.column].label} ${node.latent ?? node.kind})`)]))] : [];
    panel.replaceChildren(head, ...members, make("div", { className: "sides" }, side("comes from", linesAt(box.id, "target"), "source"), side("goes to", linesAt(box.id, "source"), "target")));
  };

  /** @param {MapNode} node */
  const facts = (node) => {
    const words = [`effect ${number(node.effect, true)}`];
    if (node.activation !== null) words.push(`activation ${number(node.activation)}, ablated to ${number(node.ablated)}`);
    if (node.recurrence !== null) words.push(`in ${Math.round(100 * node.recurrence)} % of resampled circuits`);
    const parts = [make("span", { textContent: words.join("; ") })];
    // Addresses come from files of other people: only web addresses and places in this page become links.
    if (node.href && /^(#|https?:\/\/)/.test(node.href)) parts.push(make("a", { href: node.href, rel: "noopener noreferrer", textContent: node.href.startsWith("#") ? "its card" : "its page" }));
    return parts;
  };

  /** The twin of the picture: the element's own children where it has some, else tables of nodes and edges. */
  const tellTable = () => {
    if (host.childElementCount) {
      twin.replaceChildren(make("slot"));
      return;
    }
    /** @param {string[]} head @param {string[][]} rows */
    const table = (head, rows) => make("table", {}, make("thead", {}, make("tr", {}, ...head.map((one) => make("th", { scope: "col", textContent: one })))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, word(cell)))))));
    const nodes = boxes.map((box) => [box.title, whereOf(box), number(box.effect, true)]);
    const edges = lines.map((line) => [metricOr(line.source).title, whereOf(metricOr(line.source)), metricOr(line.target).title, whereOf(metricOr(line.target)), number(line.edges.length > 1 ? null : line.edges[0].weight, true), number(line.influence, true), headOf(line)]);
    twin.replaceChildren(table(["words", "node", "effect"], nodes), table(["from", "", "to", "", "weight", "influence", "head"], edges));
  };

  /** @param {string} id */
  const toggle = (id) => {
    const group = data.groups.find((one) => one.id === id);
    if (!group) return;
    const unfold = folded.delete(id);
    if (!unfold) folded.add(id);
    chosen = null;
    render();
    const next = unfold ? group.nodes[0] : id;
    elements.get(next)?.focus({ preventScroll: true });
    choose(next);
  };

  /** @param {Box} box @param {number} step up (1) or down (-1) @returns {string | undefined} the nearest box of the next row that has one */
  const neighbour = (box, step) => {
    const here = /** @type {any} */ (places.get(box.id));
    const ahead = [metricOr(data.metric.id), ...boxes].filter((one) => (one.row - box.row) * step > 0);
    const row = Math.min(...ahead.map((one) => one.row * step));
    return ahead.filter((one) => one.row * step === row).sort((a, b) => Math.abs(/** @type {any} */ (places.get(a.id)).x - here.x) - Math.abs(/** @type {any} */ (places.get(b.id)).x - here.x))[0]?.id;
  };

  canvas.addEventListener("keydown", (event) => {
    if (chosen === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const box = metricOr(chosen), order = [...elements.keys()], place = order.indexOf(chosen);
    const moves = /** @type {Record<string, () => string | undefined>} */ ({
      ArrowRight: () => order[Math.min(place + 1, order.length - 1)], ArrowLeft: () => order[Math.max(place - 1, 0)], Home: () => order[0], End: () => order.at(-1),
      ArrowUp: () => linesAt(box.id, "source")[0]?.target ?? neighbour(box, 1), ArrowDown: () => linesAt(box.id, "target")[0]?.source ?? neighbour(box, -1),
    });
    if (event.key in moves) {
      event.preventDefault();
      const next = moves[event.key]();
      if (next !== undefined) { kept = false; choose(next); elements.get(next)?.focus(); }
    } else if (event.key.toLowerCase() === "g" && box.group) toggle(box.group.id);
    else if (event.key === "Escape") { kept = false; choose(null); }
  });
  slider.addEventListener("input", () => { drawn = Number(slider.value); show(); });
  foldAll.addEventListener("click", () => controls.fold(!folded.size));
  help.addEventListener("click", () => { keys.hidden = !keys.hidden; help.setAttribute("aria-expanded", String(!keys.hidden)); });
  const observer = new ResizeObserver(() => { if (Math.abs((Math.floor(scroll.clientWidth) || width) - width) > 1) render(); });

  const controls = {
    focus: (/** @type {string | null} */ id) => { kept = id !== null; choose(id); },
    light: (/** @type {number} */ index, /** @type {boolean} */ on) => {
      const box = boxes.find((one) => one.nodes.some((node) => node.index === index));
      if (box) elements.get(box.id)?.classList.toggle("lit", on);
    },
    fold: (/** @type {boolean} */ on) => { folded = new Set(on ? data.groups.map((one) => one.id) : []); chosen = null; render(); },
    update: (/** @type {MapData} */ next) => { data = next; folded = new Set([...folded].filter((id) => next.groups.some((one) => one.id === id))); render(); },
    destroy: () => { observer.disconnect(); root.replaceChildren(); },
  };
  render();
  observer.observe(scroll);
  return controls;
}
