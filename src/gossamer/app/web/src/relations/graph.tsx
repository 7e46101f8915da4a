/** The graph of relations: levels of detail from the server, a latent or a community beside it, and its table twin. */
import { useEffect, useMemo, useRef, useState } from "react";
import { type Shapes, get } from "../api";
import { count, number } from "../format";
import { Answer, Empty, Failed, Waiting, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { hashOf, replaceQuery, usePlace } from "../route";
import { around } from "../surroundings";
import { type Box, Canvas } from "./canvas";
import { type Drawn, type GraphQuery, getGraph, other } from "./graph_data";

/** A page that was exported holds the graph as a whole and each community, and no other part. */
const NOTHING = () => {};
const WHOLE: Box = [0, 0, 1, 1];
const KEYS: [string, string][] = [["↑ ↓", "along the strongest edge, downstream and upstream"], ["← →", "among what the last latent has edges with"], ["Enter", "open: a latent's own card, or the inside of a community"], ["Home", "the largest node"], ["+ − 0", "nearer, farther, all of it"], ["Escape", "choose none"]];
const plainly = (measure: string) => measure.replaceAll("_", " ");

export default function GraphTab({ page }: { page: Shapes["RelationsPage"] }) {
  const { query } = usePlace();
  const [measure, setMeasure] = useState(query.get("measure") ?? page.measures[0]!.name);
  const [tau, setTau] = useState<number | null>(numberOf(query.get("tau")));
  const [community, setCommunity] = useState<number | null>(numberOf(query.get("community")));
  const [detail, setDetail] = useState<GraphQuery["detail"]>("auto");
  const [box, setBox] = useState<Box>(WHOLE);
  const asked: GraphQuery = { measure, tau: tau ?? undefined, community: community ?? undefined, detail, viewport: box.map((one) => one.toFixed(5)).join(",") };
  const [asking, retry] = useAnswer(JSON.stringify(asked), (signal) => getGraph(page.id, asked, signal));
  // What was drawn last stays until the next answer is there.
  const last = useRef<Drawn | null>(null);
  if (asking.state === "answered") last.current = asking.value;
  useEffect(() => {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries({ measure, tau, community })) if (value !== null) kept.set(name, String(value));
    replaceQuery(["relations", page.id], kept);
  }, [measure, tau, community, page.id]);
  const change = (next: () => void) => { last.current = null; setBox(WHOLE); next(); };
  const drawn = last.current;
  const python = `from pathlib import Path\n\nfrom gossamer.app.related import RelatedFolder\nfrom gossamer.relations import GraphView\n\ndrawn = RelatedFolder(Path(${JSON.stringify(page.folder)}), None).drawn(${JSON.stringify(measure)})\npart = drawn.at(GraphView(max(${tau ?? 0.0}, drawn.graph.threshold), (${box.map((one) => one.toFixed(5)).join(", ")}), ${community ?? "None"}, ${JSON.stringify(detail)}))\nprint(part, part.counts)`;
  return (
    <>
      <div className="fields">
        <label>Measure <select value={measure} disabled={!around().served} onChange={(event) => change(() => { setMeasure(event.target.value); setTau(null); setCommunity(null); })}>{page.measures.map((one) => <option key={one.name} value={one.name}>{plainly(one.name)}</option>)}</select></label>
        <label>Show <select value={detail} onChange={(event) => setDetail(event.target.value as GraphQuery["detail"])}><option value="auto">by zoom</option><option value="communities">communities</option><option value="latents">latents</option></select></label>
        {drawn && <Threshold header={drawn.header} chance={page.measures.find((one) => one.name === measure)?.chance ?? null} tau={tau} setTau={setTau} />}
        {community !== null && <button type="button" onClick={() => change(() => setCommunity(null))}>All communities, not {community} alone</button>}
      </div>
      {asking.state === "failed" && <Failed error={asking.error} retry={retry} />}
      {drawn === null ? asking.state === "asking" && <Waiting>Drawing the graph; the first time finds communities and lays them out …</Waiting> : (
        <Shown page={page} drawn={drawn} asked={asked} busy={asking.state === "asking"} setBox={around().served ? setBox : NOTHING} inside={(one) => change(() => { setCommunity(one); setDetail("auto"); })} />
      )}
      {drawn && <Tools name={`${page.id}-graph`} data={{ query: asked, ...drawn.header, nodes: drawn.nodes, edges: drawn.edges }} python={python} />}
    </>
  );
}

function numberOf(text: string | null): number | null {
  const value = Number(text);
  return text === null || text === "" || !Number.isFinite(value) ? null : value;
}

function Threshold({ header, chance, tau, setTau }: { header: Drawn["header"]; chance: number | null; tau: number | null; setTau: (value: number | null) => void }) {
  const [low, high] = [header.threshold, Math.max(header.largest, header.threshold + 1e-6)];
  const said = <span className="muted">{chance === null ? "nothing calibrates this measure" : `of all pairs from ${number(chance)} on, at most 5 % are expected by chance`}</span>;
  // A page without a server holds the graph at a few thresholds.
  return around().served ? (
    <label className="wide-range">From <input type="range" min={low} max={high} step={(high - low) / 200} value={tau ?? low} aria-valuetext={number(tau ?? low)} onChange={(event) => setTau(Number(event.target.value) <= low ? null : Number(event.target.value))} /> <output>{number(tau ?? low)}</output> {said}</label>
  ) : (
    <label>From <select value={tau ?? ""} onChange={(event) => setTau(numberOf(event.target.value))}><option value="">{number(low)}</option>{header.steps.map((step) => <option key={step} value={step}>{number(step)}</option>)}</select> {said}</label>
  );
}

function Shown({ page, drawn, asked, busy, setBox, inside }: { page: Shapes["RelationsPage"]; drawn: Drawn; asked: GraphQuery; busy: boolean; setBox: (box: Box) => void; inside: (community: number) => void }) {
  const [chosen, setChosen] = useState<string | null>(null);
  // A latent stays chosen by its name, whatever part of the graph is drawn.
  const node = useMemo(() => drawn.nodes.find((one) => one.name === chosen) ?? null, [drawn, chosen]);
  const panel = useRef<HTMLElement>(null);
  const choose = (id: string | null) => setChosen(id === null ? null : drawn.byId.get(id)?.name ?? null);
  const open = (id: string) => {
    const one = drawn.byId.get(id);
    if (!one) return;
    if (drawn.header.detail === "communities") inside(one.community);
    else { setChosen(one.name); panel.current?.focus(); }
  };
  const edges = node ? drawn.touching.get(node.id)?.length ?? 0 : 0;
  return (
    <div className="workspace">
      <div className="stage">
        <p className="note" role="status" aria-busy={busy}>{said(drawn)}</p>
        {drawn.nodes.length ? <Canvas drawn={drawn} focus={node?.id ?? null} setFocus={choose} open={open} onBox={setBox} label={`Graph of ${drawn.header.detail}; arrow keys walk along edges, Enter opens; the tables below have the same`} /> : <Empty>Nothing is in sight: no pair is so alike here. Move the threshold to the left, or press 0 in the picture for all of it.</Empty>}
        <p className="hidden" role="status">{node && `${node.name} ${node.words.join(" ")}, ${count(edges, "edge")} drawn`}</p>
        <p className="note">Each community has a tile, the first dictionary at its bottom; colour is the community's. {around().served ? <>Wheel or <kbd>+</kbd> <kbd>−</kbd> go nearer: from near, latents are drawn.</> : <>Wheel or <kbd>+</kbd> <kbd>−</kbd> go nearer. This page was exported: it holds the graph by {plainly(drawn.header.measure)} alone, at the thresholds listed above, whole (at most 5,000 latents and 20,000 edges, the strongest) and inside its 60 largest communities; other measures, pairs and what hides behind these limits need <code>gossamer view</code>.</>} A name that would lie over another is left out; from nearer it has room.</p>
        <details><summary>Keys</summary><dl className="pairs">{KEYS.map(([key, what]) => <div key={key} className="keyline"><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl></details>
        <Twin page={page} drawn={drawn} choose={setChosen} chosen={chosen} />
      </div>
      <aside>
        <section className="panel" ref={panel} tabIndex={-1} aria-label="Chosen node">
          {node === null ? <p className="note">Choose a {drawn.header.detail === "latents" ? "latent" : "community"} in the picture or in a table.</p>
            : drawn.header.detail === "communities" ? <Community drawn={drawn} id={node.id} inside={inside} choose={setChosen} />
            : !around().served ? <DrawnLatent page={page} drawn={drawn} id={node.id} choose={setChosen} inside={inside} />
            : <LatentPanel page={page} name={node.name} asked={asked} choose={setChosen} inside={inside} />}
        </section>
      </aside>
    </div>
  );
}

/** What is drawn and what is not. */
function said(drawn: Drawn): string {
  const { detail, counts } = drawn.header;
  const of = (shown: number, all: number) => `${shown.toLocaleString("en-US")} of ${all.toLocaleString("en-US")}`;
  const n = (name: string) => counts[name] ?? 0;
  return detail === "latents"
    ? `Showing ${of(drawn.nodes.length, n("nodes"))} latents in sight (${n("all_nodes").toLocaleString("en-US")} in all) and ${of(drawn.edges.length, n("edges"))} edges between them; hidden: ${count(n("edges_leading_away"), "edge")} that lead out of sight.`
    : `Showing ${of(drawn.nodes.length, n("nodes"))} communities in sight, with ${of(n("latents_drawn"), n("latents"))} latents, and ${of(drawn.edges.length, n("edges"))} bundles of edges between them; hidden: ${count(n("edges_inside"), "edge")} inside communities and ${n("edges_leading_away").toLocaleString("en-US")} that lead out of sight.`;
}

function Community({ drawn, id, inside, choose }: { drawn: Drawn; id: string; inside: (community: number) => void; choose: (name: string) => void }) {
  const node = drawn.byId.get(id)!;
  const bundles = (drawn.touching.get(id) ?? []).slice(0, 30);
  return (
    <>
      <header><h3>Community {node.community}</h3><button type="button" onClick={() => inside(node.community)}>Look inside</button></header>
      <p>{count(node.members, "latent")}{node.words.length > 0 && <>: {node.words.map((word, at) => <bdi key={at} className="chip">{word}</bdi>)}</>}</p>
      {bundles.length > 0 && (
        <table className="scores"><caption className="hidden">Bundles of edges</caption>
          <thead><tr><th scope="col" className="left">with</th><th scope="col">edges</th><th scope="col">sum</th></tr></thead>
          <tbody>{bundles.map((edge) => { const there = drawn.byId.get(other(edge, id))!; return <tr key={there.id}><th scope="row" className="left"><button type="button" className="plainbutton" onClick={() => choose(there.name)}>{there.name}</button> <span className="muted">{there.words.slice(0, 3).join(" ")}</span></th><td>{edge.bundled.toLocaleString("en-US")}</td><td>{number(edge.weight)}</td></tr>; })}</tbody>
        </table>
      )}
    </>
  );
}

/** Of a page without a server: what the picture says of a latent. */
function DrawnLatent({ page, drawn, id, choose, inside }: { page: Shapes["RelationsPage"]; drawn: Drawn; id: string; choose: (name: string) => void; inside: (community: number) => void }) {
  const node = drawn.byId.get(id)!, edges = drawn.touching.get(id) ?? [];
  const side = (up: boolean) => edges.filter((edge) => (up ? edge.target : edge.source) === id).map((edge) => ({ name: drawn.byId.get(other(edge, id))!.name, words: drawn.byId.get(other(edge, id))!.words, similarity: edge.weight, both: null }));
  return (
    <>
      <header><h3><code>{node.name}</code></h3><button type="button" onClick={() => inside(node.community)}>Its community alone ({node.community})</button></header>
      {node.words.length > 0 && <p>{node.words.map((word, at) => <bdi key={at} className="chip">{word}</bdi>)}</p>}
      <Partners id={page.id} of={node.name} title="Upstream" rows={side(true)} measure={drawn.header.measure} choose={choose} up />
      <Partners id={page.id} of={node.name} title="Downstream" rows={side(false)} measure={drawn.header.measure} choose={choose} />
      <p className="note">The edges that are drawn; how often it is active, and pairs, say <code>gossamer view</code>.</p>
    </>
  );
}

function LatentPanel({ page, name, asked, choose, inside }: { page: Shapes["RelationsPage"]; name: string; asked: GraphQuery; choose: (name: string) => void; inside: (community: number) => void }) {
  const id = page.id;
  const found = useAnswer(`latent ${id} ${name} ${asked.measure} ${asked.tau}`, (signal) => get("/api/v1/relations/{part}/latent", { part: id }, { name, measure: asked.measure, tau: asked.tau }, signal));
  return (
    <Answer of={found} waiting="Reading the latent …">
      {(node) => (
        <>
          <header><h3><code><Page of={page.latents} name={node.name} /></code></h3><button type="button" onClick={() => inside(node.community)}>Its community alone ({node.community})</button></header>
          {node.explanation && <p><bdi>{node.explanation}</bdi></p>}
          {node.words.length > 0 ? <p>{node.words.map((word, at) => <bdi key={at} className="chip">{word}</bdi>)}</p> : <p className="note">No words are known of it.</p>}
          <p className="note">Active at {node.active.toLocaleString("en-US")} of {node.tokens.toLocaleString("en-US")} tokens. {node.link && <a href={node.link} rel="noreferrer">its page elsewhere</a>}</p>
          <Partners id={id} of={node.name} title="Upstream" rows={node.upstream} measure={asked.measure} choose={choose} up />
          <Partners id={id} of={node.name} title="Downstream" rows={node.downstream} measure={asked.measure} choose={choose} />
          {node.hidden > 0 && <p className="note">{count(node.hidden, "weaker edge")} not listed.</p>}
        </>
      )}
    </Answer>
  );
}

/** A latent's name, leading to its own page where the run has its dictionary. */
function Page({ of, name }: { of?: string | null; name: string }) {
  return of ? <a href={hashOf(["latent", of, name])} title="its page">{name}</a> : name;
}

function Partners({ id, of, title, rows, measure, choose, up = false }: { id: string; of: string; title: string; rows: Shapes["PartnerShape"][]; measure: string; choose: (name: string) => void; up?: boolean }) {
  if (!rows.length) return <p className="note">{title}: none so alike.</p>;
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={`${title} partners`}>
      <table className="scores">
        <thead><tr><th scope="col" className="left">{title}</th><th scope="col">{plainly(measure)}</th><th scope="col" title="tokens at which both are active">both</th><th scope="col"><span className="hidden">pair</span></th></tr></thead>
        <tbody>{rows.map((one) => <tr key={one.name}><th scope="row" className="left"><button type="button" className="plainbutton" onClick={() => choose(one.name)}>{one.name}</button> <span className="muted"><bdi>{one.words.slice(0, 3).join(" ")}</bdi></span></th><td>{number(one.similarity)}</td><td>{one.both === null ? "–" : one.both.toLocaleString("en-US")}</td><td>{around().served && <a href={hashOf(["relations", id, "pair"], new URLSearchParams(up ? { a: one.name, b: of } : { a: of, b: one.name }))}>pair</a>}</td></tr>)}</tbody>
      </table>
    </div>
  );
}

function Twin({ page, drawn, choose, chosen }: { page: Shapes["RelationsPage"]; drawn: Drawn; choose: (name: string) => void; chosen: string | null }) {
  const [open, setOpen] = useState(false);
  const latents = drawn.header.detail === "latents";
  const name = (id: string) => drawn.byId.get(id)?.name ?? id;
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>The same as tables</summary>
      {open && (
        <>
          <h3>{latents ? "Latents" : "Communities"}</h3>
          <DataTable rows={drawn.nodes} caption="Nodes that are drawn" file={`${page.id}-nodes`} keyOf={(row) => row.id} marked={(row) => row.name === chosen}
            columns={[
              { name: "node", left: true, value: (row) => row.name, show: (row) => <button type="button" className="plainbutton" onClick={() => choose(row.name)}>{row.name}</button> },
              { name: "words", left: true, value: (row) => row.words.join(" "), show: (row) => <bdi>{row.words.join(" ")}</bdi> },
              ...(latents && page.latents ? [{ name: "page", left: true, value: (row: (typeof drawn.nodes)[number]) => row.name, show: (row: (typeof drawn.nodes)[number]) => <a href={hashOf(["latent", page.latents!, row.name])} aria-label={`Page of ${row.name}`}>page</a> }] : []),
              latents ? { name: "community", value: (row) => row.community } : { name: "latents", value: (row) => row.members },
              { name: "edges drawn", value: (row) => drawn.touching.get(row.id)?.length ?? 0 },
            ]} />
          <h3>{latents ? "Edges" : "Bundles of edges"}</h3>
          <DataTable rows={drawn.edges} caption="Edges that are drawn" file={`${page.id}-edges`} keyOf={(row, at) => `${row.source} ${row.target} ${at}`}
            columns={[
              { name: latents ? "upstream" : "one", left: true, value: (row) => name(row.source) }, { name: latents ? "downstream" : "other", left: true, value: (row) => name(row.target) },
              { name: latents ? plainly(drawn.header.measure) : "sum", value: (row) => row.weight }, ...(latents ? [] : [{ name: "edges", value: (row: (typeof drawn.edges)[number]) => row.bundled }]),
            ]} />
        </>
      )}
    </details>
  );
}
