// @ts-check
/**
 * Curves with intervals: a line a method over what it costs, and beside it a list of all methods with a number each.
 *
 *     import { mountCurves } from "./curves.js";
 *     const curves = mountCurves(element, data, { onChoose: (name) => ... });
 *
 * The list is the legend: pointing at a method, or reaching it with the Tab key, brings its curve forward; Enter keeps it.
 * As the circuit map it stands in a shadow root with a constructed style sheet, all data become text nodes, colours follow
 * the `color-scheme` around, methods differ in marker and dash as well as in colour, and the element's own children are
 * the table twin. Nothing is computed but places on the screen.
 *
 * @typedef {{value: number | null, low: number | null, high: number | null}} Interval
 * @typedef {{x: number | null, y: number | null, note: string, best: boolean}} Point
 * @typedef {{name: string, look: "reference" | "prompt" | "own" | "named" | "faint" | "control" | "other", slot: number, dashed?: boolean, points: Point[],
 *   line: (number | null)[][], value: Interval | null, mark: string}} Series
 * @typedef {{name: string, x: (number | null)[], low: (number | null)[], high: (number | null)[]}} Band
 * @typedef {{label: string, scale: "symlog" | "log", linear: number | null, low: number, high: number, ticks: number[]}} XAxis
 * @typedef {{format: string, x: XAxis, y: {label: string, low: number, high: number | null}, step: boolean, series: Series[],
 *   band: Band | null, levels?: {name: string, y: number | null}[], values: string, marks: string}} CurvesData
 */

import { number, visible } from "./text.js";

const HEIGHT = 330, LEFT = 36, RIGHT = 14, TOP = 10, BOTTOM = 40, BAR = 110;
// Markers around a point, in the order of the slots.
const MARKERS = ["M-3.4 3 0-3.6 3.4 3z", "M0-4 4 0 0 4-4 0z", "M-3.4-3 0 3.6 3.4-3z", "M-3-1h2v-2h2v2h2v2h-2v2h-2v-2h-2z", "M-3.6-2.2 0 0-3.6 2.2z M3.6-2.2 0 0 3.6 2.2z",
  "M-3 -3h6v6h-6z", "M3.2-3.2-3.4 0 3.2 3.2z", "M-3.2-3.2 3.4 0-3.2 3.2z", "M-3.6 0-1.8-3.2h3.6L3.6 0 1.8 3.2h-3.6z", "M0-4 1.2-1.2 4 0 1.2 1.2 0 4-1.2 1.2-4 0-1.2-1.2z"];
const SQUARE = "M-3-3h6v6h-6z", DISC = "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z";

const SHEET = `
:host { display: block; --ink: light-dark(#1c2128, #e4e8ec); --muted: light-dark(#59626e, #a0a9b4); --faint: light-dark(#9aa3ad, #69727d);
  --rule: light-dark(#e3e7eb, #333b45); --wash: light-dark(#f5f7f9, #1d232a); --paper: light-dark(#fff, #14181d); --focus: light-dark(#8a3ffc, #be95ff);
  color: var(--ink); font: 13px/1.45 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; }
* { box-sizing: border-box; }
.curves { display: grid; grid-template-columns: minmax(0, 1fr) minmax(20rem, auto); gap: .4rem 1.6rem; align-items: start; background: var(--paper); }
.narrow { grid-template-columns: minmax(0, 1fr); }
svg { display: block; overflow: visible; } svg.inside { overflow: hidden; }
.plot { width: 100%; min-width: 0; }
text { font-size: 11.5px; fill: var(--muted); } .over { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
p { margin: 0 0 .2rem; }
.grid { stroke: var(--rule); } .level { stroke: var(--muted); stroke-dasharray: 1.5 3; }
.series { --c: var(--muted); }
.reference { --c: var(--ink); } .own, .prompt { --c: light-dark(#1a5ba6, #6cb0ff); } .control { --c: var(--faint); }
.slot0 { --c: light-dark(#a8553f, #e08f77); } .slot1 { --c: light-dark(#8a6d12, #d6b04a); } .slot2 { --c: light-dark(#3f7f5f, #7cc5a0); } .slot3 { --c: light-dark(#7a5c99, #b79ad8); } .slot4 { --c: light-dark(#1f7a87, #6cc6d2); }
.slot5 { --c: light-dark(#6e6e6e, #b0b0b0); } .slot6 { --c: light-dark(#b0647f, #e39ab4); } .slot7 { --c: light-dark(#5c6f3a, #a8bf7c); } .slot8 { --c: light-dark(#2b2f36, #e4e8ec); } .slot9 { --c: light-dark(#a06a38, #dbab7c); }
.series path.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.series.prompt path.line, .series.dashed path.line { stroke-dasharray: 6 3; }
.series.faint path.line { stroke-width: 1; opacity: .55; }
.series.other path.line, .series.control path.line { stroke: var(--faint); stroke-width: 1; }
.plot .series.control:not(.near) { display: none; }
.marker { fill: var(--c); stroke: var(--paper); stroke-width: .8; }
.marker.rest { fill: var(--paper); stroke: var(--c); stroke-width: 1; }
.plot .other:not(.near) .marker, .plot .faint:not(.near) .marker, .plot .series:not(.near) .marker.rest { display: none; }
.choosing .series:not(.near) { opacity: .16; }
.series.near path.line { stroke: var(--c); stroke-width: 2.8; opacity: 1; }
.band { fill: var(--rule); stroke: var(--faint); stroke-width: .7; }
ol { list-style: none; margin: 0; padding: 0; }
li button { display: grid; grid-template-columns: 1.1rem minmax(6rem, 1fr) ${BAR}px minmax(9.5rem, auto) .9rem; gap: .5rem; align-items: center; width: 100%; min-height: 24px;
  font: inherit; color: inherit; background: none; border: 0; border-bottom: 1px solid var(--rule); padding: 1px 2px; text-align: left; cursor: pointer; }
li button:hover, li.near button { background: var(--wash); }
li.near b { font-weight: 700; }
li b { font-weight: 400; overflow-wrap: anywhere; }
li .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.interval line { stroke: var(--c); stroke-width: 2.4; opacity: .6; } .interval .at { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 2 2; opacity: 1; }
.head, .muted { color: var(--muted); font-size: 12px; }
.said { grid-column: 1 / -1; min-height: 3rem; padding: .4rem .7rem; background: var(--wash); }
.said ul { list-style: none; margin: .2rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: -1px; }
@media (max-width: 520px) { li button { grid-template-columns: 1.1rem minmax(0, 1fr) auto .9rem; } li .interval { display: none; } }
`;

/** @param {string} name @param {Record<string, string | number>} attributes */
function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** @param {string} name @param {string} [className] @param {...(Node | string)} children */
function piece(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A name in running text: nothing in it bends the line. @param {string} text */
function plain(text) {
  const made = document.createElement("bdi");
  made.textContent = visible(text);
  return made;
}

/** Round steps from 0 up to a largest value. @param {number} low @param {number} high @returns {number[]} */
export function steps(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((one) => one * power >= rough) ?? 10);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + step * 1e-9; place += 1) found.push(Number((place * step).toPrecision(6)));
  return found;
}

/** Where a value of the x axis stands, as a share of its width. @param {XAxis} axis @returns {(value: number) => number} */
export function placeOf(axis) {
  if (axis.scale === "log") return (value) => (Math.log(value) - Math.log(axis.low)) / (Math.log(axis.high) - Math.log(axis.low) || 1);
  // Linear up to `linear`, which takes as much room as four tenths of a decade; logarithmic behind it.
  const linear = axis.linear ?? 1, room = 0.4;
  const raw = (/** @type {number} */ value) => (value <= linear ? (room * value) / linear : room + Math.log10(value / linear));
  return (value) => raw(Math.max(0, value)) / (raw(axis.high) || 1);
}

/** Whether it has a colour of the palette. @param {Series} one */
const coloured = (one) => one.look === "named" || one.look === "faint";
/** @param {Series} one */
const markerOf = (one) => (one.look === "reference" ? SQUARE : coloured(one) ? MARKERS[one.slot % MARKERS.length] : DISC);
/** @param {Series} one */
const classOf = (one) => `series ${one.look}${coloured(one) ? ` slot${one.slot % MARKERS.length}` : ""}${one.dashed ? " dashed" : ""}`;
/** @param {number | null | undefined} value */
const finite = (value) => value !== null && value !== undefined && Number.isFinite(value);

/**
 * @param {HTMLElement} host
 * @param {CurvesData} data
 * @param {{onChoose?: (name: string | null) => void}} [options]
 */
export function mountCurves(host, data, options = {}) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(SHEET);
  root.adoptedStyleSheets = [sheet];
  const curves = piece("div", "curves"), plot = piece("div", "plot"), list = piece("ol"), said = piece("div", "said"), side = piece("div");
  said.setAttribute("aria-live", "polite");
  const marked = data.series.some((one) => one.mark);
  side.append(piece("p", "head", visible(data.values) + (marked ? `; ${data.series.find((one) => one.mark)?.mark} ${visible(data.marks)}` : "")), list);
  curves.append(plot, side, said);
  root.replaceChildren(curves, piece("slot"));
  const picture = shape("svg", { role: "img", "aria-label": `${visible(data.y.label)} over ${visible(data.x.label)}; the list and the table have the numbers` });
  plot.append(piece("p", "head", visible(data.y.label)), picture);
  const groups = new Map(), rows = new Map();
  /** @type {string | null} */
  let chosen = null;
  let kept = false, width = 0;
  /** Stands over the lines. @type {Element | null} */
  let bandLabel = null;

  const largest = Math.max(1e-9, ...data.series.flatMap((one) => (one.look === "control" ? [] : one.line.map((corner) => corner[1] ?? 0))), ...(data.band?.high ?? []).map((value) => value ?? 0));
  const high = data.y.high ?? largest * 1.06;

  const draw = () => {
    width = Math.max(260, Math.floor(plot.clientWidth) || 640);
    const along = placeOf(data.x);
    const x = (/** @type {number} */ value) => LEFT + (width - LEFT - RIGHT) * along(value);
    const y = (/** @type {number} */ value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - data.y.low || 1);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    picture.setAttribute("width", String(width));
    picture.setAttribute("height", String(HEIGHT));
    const parts = [];
    for (const value of steps(data.y.low, high)) {
      const label = shape("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" });
      label.textContent = String(value);
      parts.push(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }), label);
    }
    for (const value of data.x.ticks) {
      const label = shape("text", { x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" });
      label.textContent = value.toLocaleString("en-US");
      parts.push(shape("line", { class: "grid", x1: x(value), x2: x(value), y1: TOP, y2: HEIGHT - BOTTOM }), label);
    }
    const across = shape("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" });
    across.textContent = fitted(visible(data.x.label), width - LEFT - RIGHT);
    parts.push(across);
    // What is beyond the axes does not lie over what is around the picture.
    const inside = shape("svg", { class: "inside", x: LEFT - 5, y: TOP - 5, width: width - LEFT - RIGHT + 10, height: HEIGHT - TOP - BOTTOM + 10, viewBox: `${LEFT - 5} ${TOP - 5} ${width - LEFT - RIGHT + 10} ${HEIGHT - TOP - BOTTOM + 10}` });
    const levels = levelsOf(y);
    parts.push(...levels.map(([line]) => line));
    inside.append(...bandOf(x, y));
    groups.clear();
    for (const one of [...data.series].reverse()) {
      const group = shape("g", { class: classOf(one) });
      group.append(shape("path", { class: "line", d: pathOf(one.line, x, y) }));
      for (const point of one.points) {
        if (!finite(point.x) || !finite(point.y) || /** @type {number} */ (point.x) > data.x.high || /** @type {number} */ (point.y) > high || /** @type {number} */ (point.y) < data.y.low) continue;
        const marker = shape("path", { class: `marker${point.best ? "" : " rest"}`, d: markerOf(one), transform: `translate(${x(/** @type {number} */ (point.x))} ${y(/** @type {number} */ (point.y))})` });
        const title = shape("title", {});
        title.textContent = `${visible(one.name)}${point.note ? `, ${visible(point.note)}` : ""}: ${number(point.y)} at ${number(point.x)}`;
        marker.append(title);
        group.append(marker);
      }
      group.addEventListener("pointerenter", () => { if (!kept) choose(one.name); });
      group.addEventListener("click", () => { kept = !(kept && chosen === one.name); choose(one.name); });
      groups.set(one.name, group);
      inside.append(group);
    }
    // Names over the lines.
    parts.push(inside, ...levels.map(([, label]) => label));
    picture.replaceChildren(...parts, ...(bandLabel ? [bandLabel] : []));
    curves.classList.toggle("narrow", curves.clientWidth < 860);
    show();
  };

  /** @param {string} text @param {number} room */
  const fitted = (text, room) => (text.length * 6 <= room ? text : `${text.slice(0, Math.max(8, Math.floor(room / 6) - 1))}…`);

  /** @param {(number | null)[][]} line @param {(value: number) => number} x @param {(value: number) => number} y */
  const pathOf = (line, x, y) => line.map(([a, b], index, all) => {
    // What is not known ends the line, which begins again behind it.
    if (!finite(a) || !finite(b)) return "";
    const [px, py] = [x(/** @type {number} */ (a)).toFixed(1), y(/** @type {number} */ (b)).toFixed(1)];
    if (!finite(all[index - 1]?.[1])) return `M${px} ${py}`;
    return data.step ? `L${px} ${y(/** @type {number} */ (all[index - 1]?.[1])).toFixed(1)}L${px} ${py}` : `L${px} ${py}`;
  }).join("");

  /** Named heights, their names by turns at either end: a line and its name each. @param {(value: number) => number} y @returns {[Element, Element][]} */
  const levelsOf = (y) => (data.levels ?? []).filter((one) => finite(one.y) && Number(one.y) >= data.y.low && Number(one.y) <= high).map((one, index) => {
    const left = index % 2 === 0, height = y(Number(one.y));
    const label = shape("text", { class: "over", x: left ? LEFT + 4 : width - RIGHT - 4, y: height - 4, "text-anchor": left ? "start" : "end" });
    label.textContent = visible(one.name);
    return [shape("line", { class: "level", x1: LEFT, x2: width - RIGHT, y1: height, y2: height }), label];
  });

  /** @param {(value: number) => number} x @param {(value: number) => number} y */
  const bandOf = (x, y) => {
    const band = data.band;
    if (!band || !band.x.length) return [];
    /** Stretches of the band between what is not known. @type {{x: number, low: number, high: number}[][]} */
    const stretches = [[]];
    band.x.forEach((value, index) => {
      if (finite(value) && finite(band.low[index]) && finite(band.high[index])) stretches.at(-1)?.push({ x: Number(value), low: Number(band.low[index]), high: Number(band.high[index]) });
      else stretches.push([]);
    });
    const ends = stretches.flat();
    const edge = (/** @type {typeof ends} */ part, /** @type {"low" | "high"} */ side) => part.flatMap((one, index) => (data.step && index ? [[one.x, part[index - 1]?.[side] ?? 0], [one.x, one[side]]] : [[one.x, one[side]]]));
    const drawn = stretches.filter((part) => part.length).map((part) => `M${[...edge(part, "high"), ...edge(part, "low").reverse()].map(([a, b]) => `${x(a ?? 0).toFixed(1)} ${y(b ?? 0).toFixed(1)}`).join("L")}z`);
    const label = shape("text", { class: "over", x: width - RIGHT - 4, y: y(((ends.at(-1)?.low ?? 0) + (ends.at(-1)?.high ?? 0)) / 2) + 4, "text-anchor": "end" });
    label.textContent = visible(band.name);
    bandLabel = band.name ? label : null;
    return [shape("path", { class: "band", d: drawn.join("") })];
  };

  /** Every method with its number, the picture's legend. */
  const listAll = () => {
    const values = data.series.flatMap((one) => [one.value?.low, one.value?.high]).filter(finite).map(Number);
    const [low, top] = [Math.min(0, ...values), Math.max(1e-9, ...values)];
    const at = (/** @type {number} */ value) => 3 + ((BAR - 6) * (value - low)) / (top - low || 1);
    const reference = data.series.find((one) => one.look === "reference")?.value?.value;
    for (const one of data.series) {
      const key = shape("svg", { width: 14, height: 12, viewBox: "-7 -6 14 12", class: classOf(one), "aria-hidden": "true" });
      key.append(shape("path", { class: "marker", d: markerOf(one) }));
      const bar = shape("svg", { width: BAR, height: 12, class: `interval ${classOf(one)}`, "aria-hidden": "true" });
      if (finite(reference)) bar.append(shape("line", { class: "at", x1: at(Number(reference)), x2: at(Number(reference)), y1: 0, y2: 12 }));
      if (one.value && finite(one.value.low) && finite(one.value.high)) bar.append(shape("line", { x1: at(Number(one.value.low)), x2: at(Number(one.value.high)), y1: 6, y2: 6 }));
      if (one.value && finite(one.value.value)) bar.append(shape("circle", { class: "marker", cx: at(Number(one.value.value)), cy: 6, r: 3 }));
      const written = one.value ? `${number(one.value.value)} [${number(one.value.low)}, ${number(one.value.high)}]` : "–";
      const button = piece("button", "", key, piece("b", "", plain(one.name)), bar, piece("span", "number", written), piece("span", "", visible(one.mark)));
      button.setAttribute("type", "button");
      button.addEventListener("pointerenter", () => { if (!kept) choose(one.name); });
      button.addEventListener("focus", () => { if (!kept) choose(one.name); });
      button.addEventListener("click", () => { kept = !(kept && chosen === one.name); choose(one.name); });
      const row = piece("li", "", button);
      rows.set(one.name, row);
      list.append(row);
    }
  };

  /** @param {string | null} name */
  const choose = (name) => {
    chosen = name;
    show();
    options.onChoose?.(name);
  };

  const show = () => {
    curves.classList.toggle("choosing", chosen !== null);
    for (const [name, group] of groups) group.classList.toggle("near", name === chosen);
    for (const [name, row] of rows) {
      row.classList.toggle("near", name === chosen);
      row.firstElementChild?.setAttribute("aria-pressed", String(kept && name === chosen));
    }
    const one = data.series.find((series) => series.name === chosen);
    if (!one) {
      const hidden = data.series.filter((series) => series.look === "control").length;
      said.replaceChildren(piece("span", "muted", `Point at a method, or reach it with the Tab key, for its points; Enter or a click keeps it.${hidden ? ` The curves of ${hidden} random controls are drawn as one band.` : ""}`));
      return;
    }
    const items = one.points.map((point) => piece("li", "", `${visible(point.note) || "·"}: ${number(point.y)} at ${number(point.x)}${point.best ? "" : " (another point is better)"}${finite(point.x) && Number(point.x) > data.x.high ? " (beyond the picture)" : ""}`));
    const points = piece("ul", "", ...items);
    said.replaceChildren(piece("b", "", plain(one.name)), ` `, piece("span", "muted", one.mark ? `${visible(one.mark)} ${visible(data.marks)}` : ""), points);
  };

  root.addEventListener("keydown", (event) => {
    if (/** @type {KeyboardEvent} */ (event).key === "Escape" && chosen !== null) { kept = false; choose(null); }
  });
  curves.addEventListener("pointerleave", () => { if (!kept) choose(null); });
  listAll();
  const observer = new ResizeObserver(() => { if (Math.abs((Math.floor(plot.clientWidth) || width) - width) > 1) draw(); });
  draw();
  observer.observe(plot);
  return { destroy: () => { observer.disconnect(); root.replaceChildren(); } };
}
