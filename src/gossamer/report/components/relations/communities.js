// Communities: how many of which size, how stable they are, and who is in one.
const partitions = DATA.communities.map((facts) => ({ facts, listed: facts.labels.map(({ size, layers, dictionary, latent }) => ({ size, layers, dictionary: column(dictionary), latent: column(latent) })) }));
const labelOf = (place, community) => SHOWN.labels[place]?.[community] ?? [];
const methodWords = { leiden: "Leiden, directed modularity", cpm: "Leiden, constant Potts model", louvain: "Louvain", components: "weakly connected components" };

const drawCommunities = () => {
  const at = Number(byId("partition").value), { facts, listed } = partitions[at];
  const several = facts.seeds.length > 1 && facts.method !== "components";
  fill("communities-said", make("b", {}, counted(facts.communities, "community", "communities")), " of " + counted(facts.nodes, "latent") + " with " + counted(facts.edges, "edge") + " of " + plainly(facts.measure) + " from " + fixed(facts.threshold) + ", by " + methodWords[facts.method] + (facts.method === "cpm" ? " at resolution " + facts.resolution : "") + (facts.weighted || facts.method === "components" ? "" : ", edges unweighted") + ". ",
    several ? make("span", {}, "Over " + facts.seeds.length + " seeds (" + facts.seeds.join(", ") + ") partitions agree by ", make("b", {}, fixed(float(facts.stability))), " (mean adjusted Rand index; 1: the same). ") : "One run: no stability. ", "Modularity ", make("b", {}, fixed(float(facts.quality))), ".",
    facts.chance ? " With its edges drawn anew between the same dictionaries, every latent keeping the number of its own, the graph has " + counted(facts.chance[0], "community", "communities") + (several ? " that agree by " + fixed(float(facts.chance[1])) : "") + ", of modularity " + fixed(float(facts.chance[2])) + "." : "");
  const most = Math.max(...facts.by_size);
  const lines = facts.by_size.flatMap((communities, bin) => {
    if (!communities) return [];
    const bar = make("i");
    bar.style.width = 100 * Math.sqrt(communities / most) + "%";
    const [low, high] = [2 ** bin, 2 ** (bin + 1) - 1];
    return make("tr", {}, make("th", { scope: "row" }, low === high ? String(low) : whole(low) + " to " + whole(high)), make("td", { class: "bar" }, bar), make("td", { class: "n" }, whole(communities)), make("td", { class: "n" }, bin in facts.nodes_by_size ? whole(facts.nodes_by_size[bin]) : "–"));
  });
  fill("community-sizes", make("thead", {}, make("tr", {}, ...["latents", "", "communities", "latents in all"].map((name, place) => make("th", { scope: "col", class: place > 1 ? "n" : "" }, name)))), make("tbody", {}, ...lines));
  const rows = listed.map((members, community) => ({ community, size: members.size, members, label: labelOf(at, community) }));
  const left = facts.communities - listed.length;
  twin("communities", "Communities", [
    { name: "community", of: (row) => row.community, show: (row) => make("button", { type: "button", class: "plain", "aria-expanded": "false", onclick: () => listMembers(at, row) }, String(row.community)) },
    { name: "latents", of: (row) => row.size, show: (row) => whole(row.size) },
    { name: "shared words", text: true, of: (row) => row.label.join(" "), show: (row) => bdis(row.label) ?? make("span", { class: "note" }, "none known") },
    { name: "dictionaries", text: true, of: (row) => row.members.layers.join(" "), show: ({ members: { layers } }) => layers[0] + (layers.length > 1 ? " to " + layers.at(-1) + " (" + layers.length + ")" : "") },
  ], rows, { open: true, said: counted(listed.length, "community", "communities") + " of " + whole(facts.communities) + " listed" + (left ? "; the " + (left > 1 ? whole(left) + " smallest are" : "smallest is") + " not" : "") + ". A number lists members." });
  byId("members").hidden = true;
};

const listMembers = (at, row) => {
  const { members, size, community } = row, groups = [...new Set(members.dictionary)].sort((a, b) => a - b).map((place) => [place, [...members.latent].filter((_, one) => members.dictionary[one] === place)]);
  fill("members", make("h3", { tabindex: "-1" }, "Community " + community + ": " + counted(size, "latent")),
    members.latent.length < size ? make("p", { class: "small" }, "The " + whole(members.latent.length) + " with the strongest edges; " + whole(size - members.latent.length) + " more are not in this file.") : null,
    ...groups.map(([place, latents]) => make("div", { class: "member-row" }, make("h4", {}, NAMES[place]), make("ul", {}, ...latents.map((latent) => {
      const node = at === 0 ? GRAPH?.nodeOf.get(place + ":" + latent) : undefined;
      const label = make("span", {}, make("b", {}, String(latent)), " ", bdis(wordsOf(NAMES[place], latent, 3)));
      return make("li", {}, node === undefined ? label : make("button", { type: "button", class: "plain", title: "lit by a prompt: show it in the graph", onclick: () => showNode(node) }, label));
    })))),
    make("p", { class: "tools" }, make("button", { type: "button", onclick: () => { byId("members").hidden = true; byId("communities-twin").querySelectorAll("tbody button")[0]?.focus(); } }, "Close")));
  byId("members").hidden = false;
  byId("members").querySelector("h3").focus({ preventScroll: true });
  byId("members").scrollIntoView({ block: "nearest" });
};

byId("communities-none").hidden = true;
const startCommunities = () => {
  if (!either("communities", partitions.length)) return;
  options("partition", partitions, ({ facts }) => methodWords[facts.method]);
  byId("partition-label").hidden = partitions.length < 2;
  byId("partition").addEventListener("change", drawCommunities);
  drawCommunities();
};
