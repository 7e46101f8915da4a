// Where latents stand: a row a dictionary, and columns in which as many of the strongest lines as can be are vertical.

// Each latent goes on to at most one later one, and comes from at most one earlier one: the strongest edges first.
const chainsOf = (nodes, edges, rowOf) => {
  const next = new Map(), before = new Map();
  for (const edge of [...edges].sort((a, b) => b.value - a.value || a.index - b.index))
    if (!next.has(edge.head) && !before.has(edge.tail)) { next.set(edge.head, edge.tail); before.set(edge.tail, edge.head); }
  return nodes.filter((node) => !before.has(node)).map((node) => {
    const chain = [node];
    while (next.has(chain.at(-1))) chain.push(next.get(chain.at(-1)));
    return { nodes: chain, first: rowOf(chain[0]), last: rowOf(chain.at(-1)) };
  });
};

// A chain has one column from its first to its last row, so that its lines are exactly vertical and pass no other node.
const verticalColumns = (nodes, edges, rowOf) => {
  const chains = chainsOf(nodes, edges, rowOf), chainOf = new Map();
  chains.forEach((chain, place) => chain.nodes.forEach((node) => chainOf.set(node, place)));
  const links = chains.map(() => new Map());
  for (const edge of edges) {
    const [a, b] = [chainOf.get(edge.head), chainOf.get(edge.tail)];
    if (a === b) continue;
    links[a].set(b, (links[a].get(b) ?? 0) + Math.abs(edge.value));
    links[b].set(a, (links[b].get(a) ?? 0) + Math.abs(edge.value));
  }
  // The longest first, then always the one most alike to those that stand; near them, in a column that is free.
  const column = new Map(), taken = new Map(), pull = new Map();
  const waiting = new Set(chains.keys());
  const length = (place) => chains[place].nodes.length;
  const free = (at, { first, last }) => { for (let row = first; row <= last; row++) if (taken.get(at)?.has(row)) return false; return true; };
  let [left, right] = [0, -1];
  while (waiting.size) {
    let best = null;
    for (const place of waiting) if (best === null || (pull.get(place) ?? 0) > (pull.get(best) ?? 0) || ((pull.get(place) ?? 0) === (pull.get(best) ?? 0) && length(place) > length(best))) best = place;
    waiting.delete(best);
    const chain = chains[best], known = [...links[best]].filter(([other]) => column.has(other));
    const weight = sum(known.map(([, value]) => value));
    let at = left;
    if (weight) {
      const wanted = Math.round(sum(known.map(([other, value]) => column.get(other) * value)) / weight);
      for (let step = 0; ; step++) {
        if (free(wanted + step, chain)) { at = wanted + step; break; }
        if (free(wanted - step, chain)) { at = wanted - step; break; }
      }
    } else while (!free(at, chain)) at += 1;
    column.set(best, at);
    left = Math.min(left, at); right = Math.max(right, at);
    if (!taken.has(at)) taken.set(at, new Set());
    for (let row = chain.first; row <= chain.last; row++) taken.get(at).add(row);
    for (const [other, value] of links[best]) if (waiting.has(other)) pull.set(other, (pull.get(other) ?? 0) + value);
  }
  return settled(new Map(nodes.map((node) => [node, column.get(chainOf.get(node)) - left])), edges, right - left + 1);
};

// Whole columns change places while that makes lines shorter; what is vertical stays so.
const settled = (columnOf, edges, width) => {
  const slant = edges.filter((edge) => columnOf.get(edge.head) !== columnOf.get(edge.tail)).map((edge) => [columnOf.get(edge.head), columnOf.get(edge.tail), Math.abs(edge.value)]);
  const at = Array.from({ length: width }, (_, c) => c), of = Array.from({ length: width }, () => []);
  slant.forEach((line) => { of[line[0]].push(line); of[line[1]].push(line); });
  const cost = (columns) => sum(columns.flatMap((c) => of[c].map(([a, b, weight]) => weight * Math.abs(at[a] - at[b]))));
  const order = [...at];
  for (let pass = 0, better = true; better && pass < 12; pass++) {
    better = false;
    for (let place = 0; place + 1 < width; place++) {
      const [a, b] = [order[place], order[place + 1]], before = cost([a, b]);
      [at[a], at[b]] = [at[b], at[a]];
      if (cost([a, b]) < before - 1e-9) { [order[place], order[place + 1]] = [b, a]; better = true; } else [at[a], at[b]] = [at[b], at[a]];
    }
  }
  return new Map([...columnOf].map(([node, c]) => [node, at[c]]));
};

const latentColumns = (nodes, edges, rowOf) => {
  const rows = new Map();
  for (const node of [...nodes].sort((a, b) => a - b)) rows.set(rowOf(node), [...(rows.get(rowOf(node)) ?? []), node]);
  return new Map([...rows.values()].flatMap((row) => row.map((node, at) => [node, at])));
};
