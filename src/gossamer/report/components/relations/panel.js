// What is said of the latent that is pointed at or pinned, the tables of the graph, and where one chooses.
const CONNECTED = 40;

const drawPanel = (node) => {
  if (node === null) {
    fill("panel", make("h3", {}, "Latent"), make("p", { class: "note" }, "Point at a latent to see what it is about and what it is related to; click or Enter pins it."));
    return;
  }
  const name = nodeName(node), latent = GRAPH.latent[node], facts = factsOf(name, latent), { touching, measure, lit } = view.shown;
  const community = GRAPH.community[node], prompt = view.columns;
  const at = [...prompt.node].flatMap((one, entry) => (one === node ? [[prompt.position[entry], prompt.activation[entry]]] : []));
  const own = [...touching.get(node)].sort((a, b) => b.value - a.value), listed = own.slice(0, CONNECTED);
  const connected = listed.map((edge) => {
    const other = edge.head === node ? edge.tail : edge.head;
    const line = make("tr", { "data-node": other }, make("td", {}, make("button", { type: "button", class: "plain", title: edge.head === node ? "downstream" : "upstream", onclick: () => showNode(other) }, (edge.head === node ? "↑ " : "↓ ") + nodeLabel(other)), make("br"), bdis(nodeWords(other, 3)) ?? ""),
      make("td", { class: "n" }, fixed(edge.value), make("br"), make("small", {}, interval(measure, edge.index))), ...["c", "n", "m"].map((count) => make("td", { class: "n" }, whole(GRAPH[count][edge.index]))));
    line.addEventListener("mouseenter", () => view.dots.get(other).classList.add("pointed"));
    line.addEventListener("mouseleave", () => view.dots.get(other)?.classList.remove("pointed"));
    return line;
  });
  const link = facts.link ? make("a", { href: facts.link, rel: "noopener noreferrer", target: "_blank" }, "its page") : null;
  const most = Math.max(...(facts.examples ?? []).map((one) => one.activation), 1e-9);
  fill("panel", make("h3", {}, nodeLabel(node), " ", view.pinned === node ? make("small", {}, "pinned") : null, " ", link),
    facts.explanation ? make("p", {}, facts.explanation[0].toUpperCase() + facts.explanation.slice(1)) : null,
    make("p", {}, bdis(facts.words) ?? make("span", { class: "note" }, "No words of it are known.")),
    make("p", { class: "small" }, "Lit at ", ...at.flatMap(([token, value], place) => [place ? ", " : "", make("bdi", { class: view.tokens.has(token) ? "tok here" : "tok" }, tokenName(token)), " " + number(value)]), ". ",
      "In the text: active at " + counted(GRAPH.active[node], "token") + ", at most " + number(GRAPH.maximum[node]) + "."),
    community < 0 ? null : make("p", { class: "small" }, make("i", { class: "swatch", style: "background: " + colourOf(node) }), " community " + community + " ", bdis(labelOf(0, community))),
    ...(facts.examples ?? []).slice(0, 4).map((one) => make("p", { class: "snippet" }, one.before, make("mark", { style: `--p: ${Math.round(15 + (55 * one.activation) / most)}%` }, one.token), one.after)),
    make("h4", {}, "Connected latents"),
    listed.length ? make("div", { class: "scroll" }, make("table", { id: "connected", "aria-label": "Connected latents" }, make("thead", {}, make("tr", {}, ...["latent", plainly(measure), "c", "n", "m"].map((word, place) => make("th", { scope: "col", class: place ? "n" : "" }, word)))), make("tbody", {}, ...connected))) : make("p", { class: "note" }, "None that is lit and so alike."),
    make("p", { class: "small" }, own.length > listed.length ? counted(own.length - listed.length, "more line") + ", in the table below. " : null, whole(Math.max(0, GRAPH.kept[node] - own.length)) + " of its " + counted(GRAPH.kept[node], "kept pair") + " are below the slider, or with latents that are not lit here."));
};

const showNode = (node) => {
  if (!view.columns || !GRAPH) return;
  if (!view.shown.lit.has(node)) {
    // Lit elsewhere: go where it is.
    const place = view.every.findIndex((prompt) => prompt.node.includes(node));
    choosePrompt(place, view.every[place].position[view.every[place].node.indexOf(node)]);
  }
  if (!view.dots.has(node)) { byId("lonely").checked = true; drawPrompt(); }
  pin(node);
  byId("canvas").scrollIntoView({ block: "nearest" });
  view.dots.get(node).focus({ preventScroll: true });
};

const drawGraphTables = () => {
  const { nodes, edges, lit, touching, measure } = view.shown;
  twin("nodes", "Latents of the graph", [
    { name: "latent", text: true, of: nodeLabel, show: (node) => make("button", { type: "button", class: "plain", onclick: () => showNode(node) }, nodeLabel(node)) },
    { name: "words", text: true, of: (node) => nodeWords(node, 6).join(" "), show: (node) => bdis(nodeWords(node)) ?? "" },
    { name: "activation", of: (node) => lit.get(node) },
    { name: "lines", of: (node) => touching.get(node).length, show: (node) => whole(touching.get(node).length) },
    { name: "active tokens", of: (node) => GRAPH.active[node], show: (node) => whole(GRAPH.active[node]) },
    { name: "community", of: (node) => (GRAPH.community[node] < 0 ? NaN : GRAPH.community[node]), show: (node) => (GRAPH.community[node] < 0 ? "–" : String(GRAPH.community[node])) },
  ], nodes);
  const bounds = GRAPH.intervals[measure];
  twin("edges", "Lines of the graph", [
    { name: "upstream", text: true, of: (edge) => nodeLabel(edge.head) },
    { name: "downstream", text: true, of: (edge) => nodeLabel(edge.tail) },
    { name: measure, of: (edge) => edge.value, show: (edge) => fixed(edge.value, 4) },
    ...(bounds ? [{ name: "low", of: (edge) => bounds[0][edge.index], show: (edge) => fixed(bounds[0][edge.index]) }, { name: "high", of: (edge) => bounds[1][edge.index], show: (edge) => fixed(bounds[1][edge.index]) }] : []),
    ...["c", "n", "m"].map((count) => ({ name: count, of: (edge) => GRAPH[count][edge.index], show: (edge) => whole(GRAPH[count][edge.index]) })),
  ], edges);
};

// As the published interface writes it.
const saveGraph = () => {
  const { nodes, edges, measure } = view.shown, prompt = DATA.prompts[view.prompt];
  const layers = DATA.dictionaries.map((one) => one.layer), plain = new Set(layers).size === layers.length && !layers.includes(null);
  const id = (node) => (plain ? layers[GRAPH.dictionary[node]] : nodeName(node)) + "_" + GRAPH.latent[node];
  const described = (node) => {
    const facts = { id: id(node), layer: layers[GRAPH.dictionary[node]], feature: GRAPH.latent[node], source: nodeName(node) };
    const known = DATA.latents[nodeName(node)]?.[GRAPH.latent[node]]?.explanation;
    if (GRAPH.community[node] >= 0) facts.community = GRAPH.community[node];
    return known ? { ...facts, explanation: known } : facts;
  };
  download("graph.json", {
    directed: true, multigraph: false,
    graph: { description: DATA.model + ", " + plainly(measure), prompt: prompt.text, clamping_threshold: view.least, measure, sources: NAMES },
    nodes: nodes.map(described), links: edges.map((edge) => ({ source: id(edge.head), target: id(edge.tail), similarity: edge.value })),
  });
};

const drawTokens = () => {
  const { counted: counts } = DATA.prompts[view.prompt];
  const buttons = SHOWN.tokens[view.prompt].map((token, at) => {
    const button = make("button", { type: "button", "aria-pressed": String(view.tokens.has(at)), disabled: !counts[at], title: counts[at] ? "" : "no dictionary counts at this token" }, make("bdi", {}, token));
    button.addEventListener("click", () => chooseToken(at));
    return button;
  });
  fill("tokens", ...buttons);
  roving([buttons.filter((button) => !button.disabled)]);
};

const chooseToken = (at) => {
  if (!byId("several").checked) view.tokens = new Set([at]);
  else if (view.tokens.has(at) && view.tokens.size > 1) view.tokens.delete(at);
  else view.tokens.add(at);
  drawTokens();
  byId("tokens").children[at].focus();
  drawPrompt();
};

const choosePrompt = (index, token) => {
  const last = DATA.prompts[index].counted.lastIndexOf(true);
  Object.assign(view, { prompt: index, columns: view.every[index], tokens: new Set([token ?? last]), pinned: null });
  byId("prompt").value = index;
  drawTokens();
  beginLeast();
  drawPrompt();
};

if (either("prompts", GRAPH && DATA.prompts.length)) {
  fill("prompt", ...SHOWN.texts.map((text, at) => make("option", { value: at }, text)));
  view.every = DATA.prompts.map((prompt) => Object.fromEntries(["node", "position", "activation", "active"].map((name) => [name, column(prompt[name])])));
  options("measure", MEASURES, plainly);
  byId("measure").value = Math.max(0, MEASURES.indexOf("pearson"));
  byId("measure").addEventListener("change", () => { beginLeast(); drawPrompt(); });
  byId("least").addEventListener("input", (event) => { view.least = (largest(measured()) * Number(event.target.value)) / 1000; drawPrompt(); });
  for (const id of ["order", "lonely"]) byId(id).addEventListener("change", drawPrompt);
  byId("prompt").addEventListener("change", (event) => choosePrompt(Number(event.target.value)));
  byId("save-graph").addEventListener("click", saveGraph);
  byId("canvas").addEventListener("focusout", (event) => { if (!byId("canvas").contains(event.relatedTarget)) { untip(); light(view.pinned); drawPanel(view.pinned); } });
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") untip(); }, { signal: stop.signal });
  choosePrompt(0);
}
startCommunities();
