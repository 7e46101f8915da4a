// Tokens across, dictionaries up: the latents that are active, and what they add to the open node.
const drawGrid = () => {
  const { prompt } = state, one = state.path.length ? current().one : null;
  const added = new Map();
  if (one) one.items.forEach((item, at) => added.set(item, one.contributions[at]));
  const largest = Math.max(...[...added].filter(([item]) => prompt.ofLatent.has(item)).map(([, value]) => Math.abs(value)), 1e-12);
  const head = make("tr", {}, make("th", { scope: "col" }, "dictionary"),
    ...prompt.tokens.map((token, at) => make("th", { scope: "col", class: prompt.raw.counted[at] ? "" : "passed", title: prompt.raw.counted[at] ? "" : "no dictionary counts at this token: all of it is error" },
      make("small", {}, String(at)), make("bdi", {}, token))));
  const rows = DATA.dictionaries.map((facts, d) => prompt.tokens.map((token, at) => drawCell(facts, d, at, added, largest))).reverse();
  fill("grid", make("thead", {}, head), make("tbody", {}, ...rows.map((cells, r) =>
    make("tr", {}, make("th", { scope: "row" }, DATA.dictionaries[rows.length - 1 - r].site), ...cells))));
  rows.flat().find((cell) => cell.dataset.cell === state.at)?.setAttribute("tabindex", "0");
  roving(rows, { Enter: (cell) => listCell(cell), " ": (cell) => listCell(cell) });
  byId("grid-key").hidden = !one;
};

const latentsAt = (facts, at) => {
  const { prompt } = state;
  return [...prompt.ofLatent.keys()].filter((item) => prompt.siteOf(item) === facts.site && prompt.position[item] === at)
    .sort((a, b) => prompt.activation[b] - prompt.activation[a]);
};

const drawCell = (facts, d, at, added, largest) => {
  const { prompt } = state, items = state.cells[d][at], total = prompt.active[d][at];
  const strongest = items.slice(0, 3).map((item) => prompt.latent[item] + " (" + number(prompt.activation[item]) + ")").join(", ");
  const left = total - items.length;
  const label = facts.site + " at " + at + " " + prompt.tokens[at] + ": " + count(total, "active latent") + (left > 0 ? ", +" + left + " not taken apart" : "") + (items.length ? ", strongest " + strongest + "; Enter lists them" : "");
  const dots = items.map((item) => {
    const size = 3 + 6 * Math.sqrt(prompt.activation[item] / (state.loudest[d] || 1));
    const value = added.get(item);
    const dot = make("span", { class: "dot", "data-item": item, title: prompt.full(item) + "\nactivation " + number(prompt.activation[item]) + (value === undefined ? "" : "\nadds " + signed(value) + " to the open node") });
    dot.style.setProperty("--size", size.toFixed(1) + "px");
    if (value !== undefined) paint(dot, value / largest);
    if (state.path.length && current().one.item === item) dot.classList.add("open");
    if (state.pins.has(pinKey(item, prompt.ofLatent.get(item)))) dot.classList.add("pinned");
    dot.addEventListener("click", (event) => { event.stopPropagation(); begin(prompt.ofLatent.get(item)); });
    return dot;
  });
  const cell = make("td", { tabindex: "-1", "aria-label": label, "data-cell": d + ":" + at }, make("div", {}, make("span", { class: "dots" }, ...dots), left > 0 ? make("small", { title: count(left, "more active latent") + " not taken apart in this file" }, "+" + left) : null));
  cell.addEventListener("click", () => listCell(cell));
  cell.addEventListener("focus", () => { state.at = cell.dataset.cell; });
  return cell;
};

// Colour of a signed share from -1 to 1: orange below, blue above.
const paint = (element, share) => {
  element.style.setProperty("--c", share < 0 ? "var(--neg)" : "var(--pos)");
  element.style.setProperty("--p", (100 * Math.min(1, Math.abs(share))).toFixed(1) + "%");
  element.classList.add("painted");
};

const listCell = (cell) => {
  const { prompt } = state, [d, at] = cell.dataset.cell.split(":").map(Number), facts = DATA.dictionaries[d];
  const left = prompt.active[d][at] - state.cells[d][at].length;
  const buttons = state.cells[d][at].map((item) => make("button", { type: "button", onclick: () => begin(prompt.ofLatent.get(item)) },
    make("b", {}, String(prompt.latent[item])), " " + number(prompt.activation[item]) + " ", words(item)));
  const close = () => { fill("cell"); byId("cell").hidden = true; cell.focus(); };
  fill("cell", make("h3", {}, "Active in " + facts.site + " at ", make("bdi", {}, prompt.at(at))),
    make("ul", {}, ...buttons.map((button) => make("li", {}, button))),
    make("p", { class: "small" }, buttons.length ? "Number, activation, words that it raises. " : "No latent is active here. ", left > 0 ? count(left, "weaker one") + " not taken apart in this file." : null));
  byId("cell").hidden = false;
  byId("cell").onkeydown = (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } };
  roving(buttons.map((button) => [button]));
  (buttons[0] || byId("cell").querySelector("h3")).focus();
};

const words = (item) => {
  const found = state.prompt.words(item);
  return found.length ? make("span", { class: "words" }, ...found.map((word) => make("bdi", {}, word))) : null;
};
