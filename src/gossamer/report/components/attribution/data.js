// The record of a prompt. Columns of numbers are decoded when they are first needed.
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
