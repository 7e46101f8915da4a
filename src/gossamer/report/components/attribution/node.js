// The open node: what it is made of by kind, its sources x heads, and the terms of a choice.
const drawNode = () => {
  const { prompt } = state;
  byId("node").hidden = byId("path").hidden = !state.path.length;
  if (!state.path.length) return;
  const step = current(), { one } = step, item = one.item, link = prompt.link(item);
  fill("node-title", prompt.name(item), " ", prompt.place(item) ? make("bdi", { class: "place" }, prompt.place(item)) : null);
  fill("node-facts", ...[
    "value ", make("b", {}, number(one.value)),
    state.path.length > 1 ? ", adds " : null, state.path.length > 1 ? make("b", {}, signed(step.cumulative)) : null,
    state.path.length > 1 ? " (" + percent(step.cumulative / state.path[0].cumulative) + ") to " + prompt.name(state.path[0].one.item) + " along this path" : null,
    prompt.words(item).length ? "; raises " : null, words(item),
    link ? make("a", { href: link, rel: "noreferrer" }, "its page") : null]);
  byId("pin").textContent = state.pins.has(pinKey(item, one.index)) ? "Unpin" : "Pin";
  drawKinds(one);
  drawMatrices(step);
  drawTerms(step);
};

const rounding = (one) => one.value - one.constant - sum([...one.totals]);

const bar = (share) => {
  const inner = make("i");
  inner.style.width = 50 * Math.min(1, Math.abs(share)) + "%";
  inner.className = share < 0 ? "neg" : "pos";
  return make("span", { class: "bar", "aria-hidden": "true" }, inner);
};

const drawKinds = (one) => {
  const rows = DATA.groups.map((group, g) => ({ group, n: one.counts[g], total: one.totals[g] })).filter((row) => row.n || row.group === "biases" || row.group === "errors");
  const biases = rows.find((row) => row.group === "biases");
  biases.total += one.constant;
  const largest = Math.max(...rows.map((row) => Math.abs(row.total)), Math.abs(one.value));
  const line = (name, n, total, box) => make("tr", {}, make("td", {}, box ? make("label", {}, box, " " + name) : name), make("td", { class: "n" }, n), make("td", {}, bar(total / largest)), make("td", { class: "n" }, signed(total)), make("td", { class: "n" }, percent(total / one.value)));
  fill("kinds", make("thead", {}, make("tr", {}, ...["kind (untick: not listed)", "terms", "", "sum", "share"].map((name, at) => make("th", { scope: "col", class: at ? "n" : "" }, name)))),
    make("tbody", {}, ...rows.map((row) => {
      const box = make("input", { type: "checkbox", "data-group": row.group });
      box.checked = !state.hidden.has(row.group);
      box.addEventListener("change", () => { state.hidden[box.checked ? "delete" : "add"](row.group); drawTerms(current()); });
      return line(row.group, row.group === "biases" ? "" : row.n.toLocaleString("en"), row.total, box);
    }), line("rounding", "", rounding(one))),
    make("tfoot", {}, line("whole", "", one.value)));
};

// Of a node that reads the stream, the attention that brings most of it, where that is taken apart.
const lookedThrough = (step) => {
  const { prompt } = state, { one } = step;
  if (one.layer !== null) return { one, own: true };
  const found = [...one.items].map((item, at) => ({ item, value: one.contributions[at], index: prompt.goingOn.get(one.index + ":" + item) }))
    .filter((term) => term.index !== undefined && prompt.of(term.index).layer !== null);
  return found.length ? { one: prompt.of(found[0].index), own: false, ...found[0] } : null;
};

const drawMatrices = (step) => {
  const { prompt } = state, through = lookedThrough(step);
  byId("matrices").hidden = !through;
  byId("no-heads").hidden = Boolean(through);
  fill("score");
  if (!through) return;
  const { one } = through, heads = [...Array(DATA.heads).keys()], sources = [...Array(one.sources).keys()];
  const cells = sources.map((source) => heads.map((head) => prompt.cell(one, source, head)));
  const all = cells.flat(), top = (name) => Math.max(...all.map((cell) => Math.abs(cell[name])), 1e-12);
  // Few heads, large cells.
  byId("matrices").style.setProperty("--cell", (DATA.heads <= 4 ? 26 : DATA.heads <= 8 ? 20 : DATA.heads <= 16 ? 14 : 11) + "px");
  const tops = { pattern: 1, value: top("value"), product: top("product") };
  fill("matrix-title", "Heads of layer " + one.layer + ", from each token to " + prompt.place(one.item),
    through.own ? "" : ": what " + prompt.name(through.item) + " brings, " + signed(through.value) + " (" + percent(through.value / step.one.value) + " of the node)");
  const choose = (source, head) => {
    if (!through.own) { open(through.item, through.index, through.value, null, null, true); }
    select(source, head);
  };
  const chosen = (source, head) => through.own && step.source === source && step.head === head;
  // Tab stops at the choice, or at the cell that brings most.
  const first = all.indexOf(all.reduce((best, cell) => (Math.abs(cell.product) > Math.abs(best.product) ? cell : best)));
  const whole = !through.own || (step.source === null && step.head === null);
  const stop = whole ? Math.floor(first / DATA.heads) + ":" + (first % DATA.heads) : (step.source ?? "") + ":" + (step.head ?? "");
  for (const name of ["pattern", "value", "product"]) {
    const main = name === "product";
    const rows = sources.map((source) => {
      const row = heads.map((head) => {
        const cell = make("td", { "aria-label": "from " + source + " " + prompt.tokens[source] + " by head " + head + ": " + said(cells[source][head], one) });
        const value = cells[source][head][name];
        if (name === "pattern") { paint(cell, value); cell.style.setProperty("--c", "var(--amount)"); } else paint(cell, value / tops[name]);
        cell.dataset.at = source + ":" + head;
        return cell;
      });
      if (main) row.push(sumCell(source, null, prompt.brought(one, source, null), one));
      return row;
    });
    if (main) rows.push([...heads.map((head) => sumCell(null, head, prompt.brought(one, null, head), one)), sumCell(null, null, one.value, one)]);
    for (const cell of rows.flat()) {
      const [source, head] = cell.dataset.at.split(":").map((part) => (part === "" ? null : Number(part)));
      if (chosen(source, head)) { cell.classList.add("chosen"); if (main) cell.setAttribute("aria-selected", "true"); }
      if (main && cell.dataset.at === stop) cell.setAttribute("tabindex", "0");
      cell.addEventListener("mouseenter", () => tell(one, source, head));
      cell.addEventListener("focus", () => tell(one, source, head));
      cell.addEventListener("click", () => choose(source, head));
      if (main) cell.setAttribute("role", "gridcell");
    }
    const names = (source) => (source === undefined ? make("th", { scope: "row" }, "all") : make("th", { scope: "row" }, name === "pattern" || main ? prompt.at(source) : String(source)));
    fill("m-" + name, make("thead", {}, make("tr", {}, make("th"), ...heads.map((head) => make("th", { scope: "col" }, String(head))), main ? make("th", { scope: "col" }, "all") : null)),
      make("tbody", {}, ...rows.map((row, at) => make("tr", {}, names(sources[at]), ...row))));
    byId("l-" + name).textContent = name === "pattern" ? "0 to 1" : MINUS + number(tops[name]) + " to +" + number(tops[name]);
    if (main) roving(rows, { Enter: (cell) => cell.click(), " ": (cell) => cell.click() });
  }
  tell(one, through.own ? step.source : null, through.own ? step.head : null);
};

const sumCell = (source, head, total, one) => {
  const from = source === null ? "from all tokens" : "from " + source + " " + state.prompt.tokens[source];
  const cell = make("td", { class: "sum", "aria-label": from + (head === null ? " by all heads" : " by head " + head) + ": " + signed(total) + ", " + percent(total / one.value) });
  cell.dataset.at = (source ?? "") + ":" + (head ?? "");
  paint(cell, total / (Math.abs(one.value) || 1));
  if (source !== null && head === null) cell.append(signed(total));
  return cell;
};

const said = (cell, one) => "pattern " + plain(cell.pattern) + " × value " + signed(cell.value) + " = " + signed(cell.product) + ", " + percent(cell.product / one.value) + " of " + number(one.value);

const tell = (one, source, head) => {
  const { prompt } = state, known = source !== null && head !== null;
  const from = source === null ? "from all tokens" : "from " + prompt.at(source);
  const text = known ? said(prompt.cell(one, source, head), one) : signed(prompt.brought(one, source, head)) + ", " + percent(prompt.brought(one, source, head) / one.value) + " of " + number(one.value);
  fill("readout", from + ", " + (head === null ? "all heads" : "head " + head) + ": " + text + (source === null && head === null ? ", biases included" : ""));
};

const drawTerms = (step) => {
  const { prompt } = state, { one, source, head } = step;
  const every = prompt.terms(one, source, head), total = prompt.brought(one, source, head);
  const shown = every.filter((term) => !state.hidden.has(term.group));
  const hidden = every.filter((term) => state.hidden.has(term.group));
  const visible = state.all ? shown : shown.slice(0, 14);
  const whole = source === null && head === null, constant = whole ? one.constant : 0;
  const rest = total - constant - sum(every.map((term) => term.value)) - (whole ? rounding(one) : 0);
  const counted = sum([...one.counts]) - one.items.length;
  const largest = Math.max(...every.map((term) => Math.abs(term.value)), Math.abs(rest), 1e-12);
  const from = source === null ? "every token" : prompt.at(source);
  fill("terms-title", "What came from ", make("bdi", {}, from), one.layer === null ? "" : head === null ? " through all heads" : " through head " + head, ": " + signed(total) + ", " + percent(total / one.value));
  byId("clear").hidden = whole;
  byId("why").hidden = source === null || head === null || one.layer === null;
  const score = prompt.scores.get([one.layer, head, prompt.position[one.item], source].join(":"));
  byId("why").disabled = !score;
  byId("why").textContent = score ? "Why did head " + head + " look there?" : "Why head " + head + " looked there is not in this file";
  const buttons = [];
  const rows = visible.map((term) => {
    const index = prompt.opens(term.item, one.index), ends = index === undefined;
    const button = make("button", { type: "button", class: "name" + (ends ? " ends" : ""), "aria-disabled": ends ? "true" : null, "data-item": term.item, title: ends ? reason(term.item) : "open" },
      prompt.name(term.item), " ", words(term.item));
    button.addEventListener("click", () => { if (!ends) open(term.item, index, term.value, source, head); });
    button.addEventListener("keydown", (event) => { if (event.key === "p") { event.preventDefault(); togglePin(term.item, index); } });
    buttons.push([button]);
    const by = head === null && term.heads.length && Math.abs(term.heads[0][1]) > 0 ? "head " + term.heads[0][0] + " " + signed(term.heads[0][1]) : "";
    const pin = make("button", { type: "button", class: "pin", tabindex: "-1", "aria-label": "Pin " + prompt.full(term.item), "aria-pressed": String(state.pins.has(pinKey(term.item, index))), onclick: () => togglePin(term.item, index) }, "pin");
    return termRow(button, prompt.place(term.item), term.group, by, term.value, largest, step, pin);
  });
  const extra = (name, note, value) => termRow(make("span", { class: "note" }, name), "", "", note, value, largest, step, null);
  if (constant) rows.push(extra("biases that no token brings", "", constant));
  if (hidden.length) rows.push(extra(count(hidden.length, "term") + " of kinds that are unticked", "", sum(hidden.map((term) => term.value))));
  if (shown.length > visible.length) rows.push(extra(count(shown.length - visible.length, "smaller term") + " listed below", "", sum(shown.slice(visible.length).map((term) => term.value))));
  rows.push(extra(whole ? count(counted, "term") + " not listed in this file" : "terms not listed in this file", "", rest));
  if (whole) rows.push(extra("rounding", "", rounding(one)));
  fill("terms", make("thead", {}, make("tr", {}, ...["what", "token", "kind", "most by", "", "adds", "of this node", "of the start, " + number(state.path[0].cumulative), ""].map((name, at) => make("th", { scope: "col", class: at > 4 ? "n" : at === 3 ? "by" : "" }, name)))), make("tbody", {}, ...rows));
  byId("terms").className = one.layer === null || head !== null ? "no-by" : "";
  byId("more").hidden = shown.length <= 14;
  byId("more").textContent = state.all ? "Show the largest 14" : "Show all " + shown.length;
  roving(buttons);
};

const termRow = (what, place, kind, by, value, largest, step, pin) => {
  const along = step.cumulative * value / step.one.value;
  return make("tr", {}, make("td", {}, what), make("td", {}, make("bdi", {}, place)), make("td", { class: "kind" }, kind), make("td", { class: "by" }, by), make("td", {}, bar(value / largest)), make("td", { class: "n" }, signed(value)), make("td", { class: "n" }, percent(value / step.one.value)),
    make("td", { class: "n" }, signed(along) + " (" + percent(along / state.path[0].cumulative) + ")"), make("td", {}, pin));
};

const reason = (item) => ({
  latent: "not among the latents that are taken apart in this file",
  attention: "not among the attention outputs that are taken apart in this file",
  skip: "not taken apart in this file",
  mlp: "an MLP without a transcoder: paths end here",
  error: "what a dictionary does not explain: paths end here",
})[state.prompt.kindOf(item)] || "paths end here";

const drawScore = () => {
  const { prompt } = state, step = current(), { one, source, head } = step, query = prompt.position[one.item];
  const raw = prompt.scores.get([one.layer, head, query, source].join(":"));
  const pairs = column(raw.contributions), queries = column(raw.query_items), keys = column(raw.key_items);
  const largest = Math.max(...pairs.map(Math.abs));
  const row = (q, k, value) => make("tr", {}, make("td", {}, q), make("td", {}, k), make("td", {}, bar(value / largest)), make("td", { class: "n" }, signed(value)), make("td", { class: "n" }, percent(value / raw.score)));
  const part = (item) => {
    const index = prompt.ofLatent.get(item);
    return index === undefined ? prompt.name(item) : make("button", { type: "button", onclick: () => begin(index), title: "begin with it" }, prompt.name(item), " ", words(item));
  };
  fill("score", make("h3", { tabindex: "-1" }, "Why head " + one.layer + "." + head + " looked from " + prompt.at(query) + " to " + prompt.at(source)),
    make("p", {}, "Score before the softmax " + signed(raw.score) + ", pattern " + plain(prompt.pattern(one.layer, head, query, source)) + ". Pairs of a part of the query and a part of the key add up to the score; what other tokens do in the softmax is not in them."),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...["query, at " + prompt.at(query), "key, at " + prompt.at(source), "", "adds", "of the score"].map((name, at) => make("th", { scope: "col", class: at > 2 ? "n" : "" }, name)))),
      make("tbody", {}, ...[...pairs].map((value, at) => row(part(queries[at]), part(keys[at]), value)),
        row(make("span", { class: "note" }, count(raw.pairs - pairs.length, "pair") + " not listed"), "", raw.score - raw.remainder - sum([...pairs])),
        row(make("span", { class: "note" }, "no pair (a cap on scores, rounding)"), "", raw.remainder)))),
    make("button", { type: "button", onclick: () => { fill("score"); byId("why").focus(); } }, "Close"));
  byId("score").querySelector("h3").focus();
};
