"use strict";
// The record as the page reads it. Columns of numbers are decoded when they are first needed.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read("data"), SHOWN = read("shown");
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

class Prompt {
  constructor(index) {
    const raw = DATA.prompts[index];
    Object.assign(this, { index, raw, tokens: SHOWN.tokens[index], root: raw.root, target: SHOWN.targets[index] });
    for (const name of ["kind", "group", "site", "latent", "position", "activation"]) this[name] = column(raw.items[name]);
    this.active = raw.active.map(column);
    this.functions = new Map();
    this.ofLatent = new Map();
    this.goingOn = new Map();
    raw.functions.forEach((one, at) => {
      if (one.parent === null) this.ofLatent.set(one.item, at);
      else this.goingOn.set(one.parent + ":" + one.item, at);
    });
    this.scores = new Map(raw.scores.map((one) => [[one.layer, one.head, one.query, one.key].join(":"), one]));
    this.patterns = new Map();
  }

  // A function, decoded: its terms, and v.w by head and source.
  of(index) {
    if (!this.functions.has(index)) {
      const raw = this.raw.functions[index];
      const made = { index, item: raw.item, parent: raw.parent, value: raw.value, constant: raw.constant, layer: raw.layer };
      for (const name of ["values", "items", "contributions", "heads", "by_head", "counts", "totals"]) made[name] = column(raw[name]);
      made.sources = made.layer === null ? 0 : made.values.length / DATA.heads;
      made.listed = made.items.length ? made.heads.length / made.items.length : 0;
      this.functions.set(index, made);
    }
    return this.functions.get(index);
  }

  // The number of the function that a term of another one opens, or undefined.
  opens(item, parent) { return this.ofLatent.get(item) ?? this.goingOn.get(parent + ":" + item); }

  pattern(layer, head, query, key) {
    if (!this.patterns.has(layer)) this.patterns.set(layer, column(this.raw.patterns[layer]));
    const n = this.tokens.length;
    return this.patterns.get(layer)[head * (n * (n + 1)) / 2 + (query * (query + 1)) / 2 + key];
  }

  // Of a function: v.w of a head and source, the pattern there, and what they make.
  cell(one, source, head) {
    const value = one.values[head * one.sources + source];
    const pattern = this.pattern(one.layer, head, this.position[one.item], source);
    return { value, pattern, product: value * pattern };
  }

  // What a choice of source and head (null: all) brings; with both null, the whole value.
  brought(one, source, head) {
    if (source === null && head === null) return one.value;
    if (one.layer === null) return source === this.position[one.item] ? one.value : 0;
    let total = 0;
    for (let s = source ?? 0; s <= (source ?? one.sources - 1); s++)
      for (let h = head ?? 0; h <= (head ?? DATA.heads - 1); h++) total += this.cell(one, s, h).product;
    return total;
  }

  // The listed terms of a choice, the largest first; with a head, what it brought of them, where that is known.
  terms(one, source, head) {
    const found = [];
    one.items.forEach((item, at) => {
      if (source !== null && this.position[item] !== source) return;
      const heads = Array.from({ length: one.listed }, (_, k) => [one.heads[at * one.listed + k], one.by_head[at * one.listed + k]]);
      const own = head === null ? one.contributions[at] : heads.find(([which]) => which === head)?.[1];
      if (own !== undefined) found.push({ item, value: own, heads, group: DATA.groups[this.group[item]] });
    });
    return found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  }

  kindOf(item) { return DATA.kinds[this.kind[item]]; }
  siteOf(item) { return this.site[item] < 0 ? "" : this.raw.items.sites[this.site[item]]; }
  at(position) { return position + " " + this.tokens[position]; }
  place(item) { return this.position[item] < 0 ? "" : this.at(this.position[item]); }

  name(item) {
    const site = this.siteOf(item);
    switch (this.kindOf(item)) {
      case "root": return this.target;
      case "latent": return site + "/" + this.latent[item];
      case "token": return "token embedding";
      case "position": return "position embedding";
      case "skip": return "skip of " + site;
      case "error": return "error of " + site;
      case "bias": return site ? "bias of " + site : "biases";
      default: return site;
    }
  }

  full(item) { return this.place(item) ? this.name(item) + " at " + this.place(item) : this.name(item); }
  words(item) { return this.kindOf(item) === "latent" ? SHOWN.words[this.siteOf(item)]?.[this.latent[item]] ?? [] : []; }

  link(item) {
    const facts = this.kindOf(item) === "latent" && DATA.dictionaries.find((one) => one.site === this.siteOf(item));
    return facts && facts.link && /^https?:\/\//.test(facts.link) ? facts.link + this.latent[item] : null;
  }
}

// Elements: text is only ever set as text.
const make = (tag, attributes = {}, ...children) => {
  const element = ["svg", "g", "path", "rect", "text", "title"].includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};
const byId = (id) => document.getElementById(id);
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
