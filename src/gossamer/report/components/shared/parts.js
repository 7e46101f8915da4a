// What pages share: numbers in words, elements, keys, files.
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

const column = (text) => {
  const [type, bytes] = text.split(":");
  return new TYPES[type](Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0)).buffer);
};

const MINUS = "\u2212", THIN = "\u202f";
const decimals = (size) => (size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.01 ? 3 : 4);
const plain = (value) => (0 < Math.abs(value) && Math.abs(value) < 0.00005 ? "0" : Math.abs(value).toFixed(decimals(Math.abs(value))));
const number = (value) => (value < 0 && plain(value) !== "0" ? MINUS : "") + plain(value);
const signed = (value) => (plain(value) === "0" || value === 0 ? "0" : (value < 0 ? MINUS : "+") + plain(value));
const percent = (share) => {
  if (!Number.isFinite(share)) return "–";
  const size = Math.abs(share) < 1e-6 ? 0 : Math.abs(100 * share);
  const text = size >= 9.95 || size === 0 ? size.toFixed(0) : size < 0.05 ? "<0.1" : size.toFixed(1);
  return (share < 0 && size >= 0.05 ? MINUS : "") + text + THIN + "%";
};
const count = (n, noun) => n.toLocaleString("en") + " " + noun + (n === 1 ? "" : "s");
const sum = (values) => values.reduce((total, value) => total + value, 0);

// Elements: text is only ever set as text.
const make = (tag, attributes = {}, ...children) => {
  const element = ["svg", "g", "path", "rect", "text", "title", "circle", "line", "polyline"].includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    // Set as an attribute, a strict Content-Security-Policy would drop it.
    if (name === "style") element.style.cssText = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};
const byId = (id) => root.getElementById(id);
const fill = (id, ...children) => byId(id).replaceChildren(...children.filter((child) => child !== null && child !== undefined));

// Keys that move the focus among elements in rows and columns; one of them is in the order of Tab at a time.
const roving = (rows, extra = {}) => {
  const every = rows.flat().filter(Boolean);
  if (!every.length) return;
  const show = (element) => {
    every.forEach((one) => one.setAttribute("tabindex", one === element ? "0" : "-1"));
  };
  show(every.find((one) => one.getAttribute("tabindex") === "0") || every[0]);
  rows.forEach((row, r) => row.forEach((element, c) => element && element.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    let next = null;
    if (event.key in steps) {
      let [y, x] = [r + steps[event.key][0], c + steps[event.key][1]];
      while (rows[y] && x >= 0 && x < rows[y].length && !rows[y][x]) { y += steps[event.key][0]; x += steps[event.key][1]; }
      next = rows[y]?.[x];
    } else if (event.key === "Home") next = row.find(Boolean);
    else if (event.key === "End") next = row.findLast(Boolean);
    else if (event.key in extra) { event.preventDefault(); extra[event.key](element); return; }
    else return;
    event.preventDefault();
    if (next) next.focus();
  })));
  every.forEach((one) => one.addEventListener("focus", () => show(one)));
};

const cut = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// A file that the reader saves: text of any kind.
const save = (name, text, type) => {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
};
const download = (name, value) => save(name, JSON.stringify(value, null, 1), "application/json");
