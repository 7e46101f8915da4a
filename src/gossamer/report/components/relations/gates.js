// Gates with their truth tables.
const verdict = (confirmed) => (confirmed === null ? "too rare" : confirmed ? "confirmed" : "refuted");
const gates = (DATA.gates ?? []).flatMap((pair) => pair.gates.map((gate, at) => ({ pair, gate, ablated: pair.confirmed.length ? verdict(pair.confirmed[at]) : "", active: sum(gate.table.counts.map(([, on]) => on)) })));
const tokensOf = (gate) => sum(gate.table.counts.map(([off, on]) => off + on));

const truthTable = ({ gate }) => make("table", { class: "truth" }, make("tbody", {}, ...gate.table.counts.map(([off, on], pattern) => {
  const bits = gate.inputs.map((_, bit) => (pattern >> bit) & 1), share = off + on ? on / (off + on) : 0;
  const bar = make("i");
  bar.style.width = 100 * share + "%";
  return make("tr", {}, ...bits.map((bit) => make("td", { class: bit ? "on" : "off" }, String(bit))), make("td", { class: "share" }, bar), make("td", { class: "n" }, off + on ? percent(share) : "–"), make("td", { class: "n" }, whole(on) + " of " + whole(off + on)));
})));

const inputWords = ({ pair, gate }) => make("ol", { class: "inputs" }, ...gate.inputs.map((input) => make("li", {}, gate.negated === input ? "not " : null, latentLabel(pair.upstream, input))));
const said = ({ pair, gate, ablated }) => [pair.upstream, pair.downstream, gate.kind, ...gate.inputs, gate.output, ...gate.inputs.flatMap((one) => factsOf(pair.upstream, one).words), ...factsOf(pair.downstream, gate.output).words, ablated].join(" ").toLowerCase();

const drawGates = () => {
  const kinds = new Set([...byId("gate-filters").querySelectorAll("[data-kind]")].filter((box) => box.checked).map((box) => box.dataset.kind));
  const wanted = byId("gate-find").value.trim().toLowerCase(), pair = byId("gate-pair").value;
  const rows = gates.filter((row) => kinds.has(row.gate.kind) && (pair === "" || DATA.gates[pair] === row.pair) && said(row).includes(wanted));
  const found = sum(DATA.gates.map((one) => one.found)), hidden = found - gates.length;
  twin("gates", "Gates", [
    { name: "gate", text: true, of: ({ gate }) => gate.kind, show: ({ gate }) => make("b", {}, gate.kind) },
    { name: "inputs (in the order of the truth table)", text: true, of: ({ pair: one, gate }) => gate.inputs.map((input) => (gate.negated === input ? "not " : "") + one.upstream + "/" + input).join(" "), show: inputWords },
    { name: "output", text: true, of: ({ pair: one, gate }) => one.downstream + "/" + gate.output, show: ({ pair: one, gate }) => latentLabel(one.downstream, gate.output) },
    { name: "gain (nats)", of: ({ gate }) => gate.gain },
    { name: "precision", of: ({ gate }) => gate.precision, show: ({ gate }) => fixed(gate.precision) },
    { name: "recall", of: ({ gate }) => gate.recall, show: ({ gate }) => fixed(gate.recall) },
    { name: "output active", of: (row) => row.active, show: (row) => whole(row.active) },
    { name: "q", of: ({ gate }) => gate.q_value, show: ({ gate }) => (gate.q_value < 0.0001 ? "<0.0001" : gate.q_value.toFixed(4)) },
    ...(gates.some(({ ablated }) => ablated) ? [{ name: "by ablation", text: true, of: ({ ablated }) => ablated, show: ({ ablated }) => ablated || "–" }] : []),
    { name: "truth table: output active at", text: true, of: ({ gate }) => gate.table.counts.map(([off, on], pattern) => gate.inputs.map((_, bit) => (pattern >> bit) & 1).join("") + ": " + on + "/" + (off + on)).join("; "), show: truthTable },
  ], rows, { open: true, sorted: { place: 3, down: true }, said: counted(rows.length, "gate") + " of " + whole(found) + " shown" + (hidden ? "; the " + whole(hidden) + " of least gain are not in this file" : "") });
};

if (either("gates", gates.length)) {
  const kinds = [...new Set(gates.map(({ gate }) => gate.kind))].sort();
  const boxes = kinds.map((kind) => {
    const box = make("input", { type: "checkbox", "data-kind": kind, onchange: drawGates });
    box.checked = true;
    return make("label", {}, box, " " + kind + " ", make("small", {}, whole(gates.filter(({ gate }) => gate.kind === kind).length)));
  });
  fill("gate-filters", ...boxes,
    make("label", {}, "pair ", make("select", { id: "gate-pair", onchange: drawGates }, make("option", { value: "" }, "all"), ...DATA.gates.map((pair, place) => make("option", { value: place }, pairName(pair) + " (" + whole(pair.found) + ")")))),
    make("label", {}, "find ", make("input", { id: "gate-find", type: "search", placeholder: "latent or word", oninput: drawGates })));
  drawGates();
} else fill("gates-none", DATA.gates === null ? "Gates were not looked for. " : "No gate was found: no output is, at enough tokens, a function of two latents that either says more about than one alone. ",
  ...(DATA.gates === null ? ["Count with ", make("code", {}, "gossamer relate --gates"), ", or give ", make("code", {}, "find_gates"), " of each pair to ", make("code", {}, "relations_data"), "."] : ["More text, or a smaller ", make("code", {}, "support"), " or ", make("code", {}, "agreement"), " of ", make("code", {}, "GateSettings"), ", finds more."]));
