// What is open, and how one gets there.
const state = { prompt: null, path: [], hidden: new Set(), pins: new Map(), all: false, at: null };
const current = () => state.path[state.path.length - 1];

const usePrompt = (index) => {
  const prompt = new Prompt(index);
  Object.assign(state, { prompt, path: [], pins: new Map(), all: false, at: null });
  state.cells = DATA.dictionaries.map((facts) => prompt.tokens.map((_, at) => latentsAt(facts, at)));
  state.loudest = state.cells.map((row) => Math.max(...row.flat().map((item) => prompt.activation[item]), 0));
  byId("cell").hidden = true;
  byId("begin").hidden = prompt.root === null;
  if (prompt.root !== null) {
    byId("begin").textContent = prompt.target + " = " + number(prompt.of(prompt.root).value);
    begin(prompt.root, false);
  } else draw();
};

const draw = () => { drawGrid(); drawPath(); drawNode(); drawGraph(); };

const step = (one, from, cumulative) => ({ one, from, cumulative, source: null, head: null });

// A path of its own from a function.
const begin = (index, focus = true) => {
  const one = state.prompt.of(index);
  Object.assign(state, { path: [step(one, null, one.value)], all: false });
  draw();
  if (focus) arrive();
};

// One step back from the open node: to a term, as much of it as the chosen head brought.
const open = (item, index, value, source, head, quiet = false) => {
  const here = current(), one = state.prompt.of(index);
  // What attention without a dictionary brought was taken apart for all heads together.
  const whole = one.parent !== null && head !== null;
  const added = whole ? here.one.contributions[here.one.items.indexOf(item)] : value;
  const from = { source, head: whole ? null : head, contribution: added, share: added / here.one.value };
  state.path.push(step(one, from, here.cumulative * added / here.one.value));
  state.all = false;
  draw();
  if (!quiet) arrive();
};

const select = (source, head) => {
  Object.assign(current(), { source, head });
  state.all = false;
  draw();
  byId("m-product").querySelector(".chosen")?.focus({ preventScroll: true });
};

const backTo = (length) => {
  state.path.length = length;
  state.all = false;
  draw();
  arrive();
};

const arrive = () => {
  byId("path").scrollIntoView({ block: "nearest" });
  byId("node-title").focus({ preventScroll: true });
};

const drawPath = () => {
  const { prompt } = state;
  fill("crumbs", ...state.path.map((at, place) => make("li", {},
    at.from ? make("span", { class: "via" }, "← " + percent(at.from.share) + (at.from.head === null ? "" : " by head " + at.from.head)) : null,
    make("button", { type: "button", "aria-current": place === state.path.length - 1 ? "step" : null, onclick: () => backTo(place + 1) },
      prompt.name(at.one.item), " ", make("bdi", {}, prompt.place(at.one.item)), make("small", {}, " " + signed(at.cumulative))))));
};

const described = (item, index) => {
  const { prompt } = state;
  const found = { name: prompt.name(item), kind: prompt.kindOf(item), site: prompt.siteOf(item) || null, latent: prompt.latent[item] < 0 ? null : prompt.latent[item], position: prompt.position[item] < 0 ? null : prompt.position[item] };
  found.token = found.position === null ? null : prompt.raw.tokens[found.position];
  if (found.latent !== null) found.activation = prompt.activation[item];
  if (index !== undefined) found.value = prompt.of(index).value;
  return found;
};

const head = (format) => ({ format, model: DATA.model, prompt: state.prompt.raw.tokens });

const exportPath = () => download("path.json", {
  ...head("gossamer.attribution_path.1"),
  steps: state.path.map((at) => ({
    node: described(at.one.item, at.one.index), source: at.from?.source ?? null, head: at.from?.head ?? null,
    local: at.from ? { contribution: at.from.contribution, share: at.from.share } : null,
    cumulative: { contribution: at.cumulative, share: at.cumulative / state.path[0].cumulative },
  })),
});

root.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !state.path.length) return;
  if (byId("score").childElementCount) { fill("score"); byId("why").focus(); }
  else if (current().source !== null || current().head !== null) select(null, null);
  else if (state.path.length > 1) backTo(state.path.length - 1);
  else byId("grid").querySelector('[tabindex="0"]').focus();
}, { signal: stop.signal });
byId("begin").addEventListener("click", () => begin(state.prompt.root));
byId("back").addEventListener("click", () => (state.path.length > 1 ? backTo(state.path.length - 1) : null));
byId("pin").addEventListener("click", () => togglePin(current().one.item, current().one.index));
byId("pin-path").addEventListener("click", () => { state.path.forEach((at) => state.pins.set(pinKey(at.one.item, at.one.index), [at.one.item, at.one.index])); draw(); });
byId("export-path").addEventListener("click", exportPath);
byId("export-graph").addEventListener("click", exportGraph);
byId("unpin").addEventListener("click", () => { state.pins.clear(); draw(); });
byId("clear").addEventListener("click", () => select(null, null));
byId("why").addEventListener("click", drawScore);
byId("more").addEventListener("click", () => { state.all = !state.all; drawTerms(current()); });
byId("prompt").addEventListener("change", (event) => usePrompt(Number(event.target.value)));
fill("prompt", ...SHOWN.texts.map((text, at) => make("option", { value: at }, text)));
byId("most-latents").textContent = DATA.limits.latents;
byId("most-terms").textContent = DATA.limits.terms;
usePrompt(0);
