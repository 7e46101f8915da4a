/** How information moved: prompts taken apart, and traces. */
import { Suspense, lazy, useState } from "react";
import { type Shapes, get } from "../api";
import { count, interval, number } from "../format";
import { Answer, Empty, Waiting, useAnswer } from "../parts/states";
import { Pictures } from "../parts/study";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { hashOf } from "../route";
import { around } from "../surroundings";

const Explorer = lazy(() => import("../attention/explorer"));

export function AttributionView({ id }: { id: string }) {
  const found = useAnswer(`attribution ${id}`, (signal) => get("/api/v1/attribution/{part}", { part: id }, undefined, signal));
  return (
    <Answer of={found} waiting="Reading what was taken apart …">
      {(page) => (
        <>
          <h1>How information moved <span>in {page.title}</span></h1>
          <Explored page={page} name={id} python={`from gossamer.attention import AttributionData\n\nprint(AttributionData.load(${JSON.stringify(page.file)}))`} />
        </>
      )}
    </Answer>
  );
}

export function Explored({ page, name, python }: { page: Shapes["AttributionPage"]; name: string; python: string }) {
  const { prompts } = page.data as { prompts?: unknown[] };
  if (!prompts?.length) return <Empty>No prompt was taken apart: <code>gossamer explore … --prompt TEXT</code> does.</Empty>;
  return (
    <>
      <Suspense fallback={<Waiting>Loading the explorer …</Waiting>}><Explorer page={page} /></Suspense>
      <Tools name={name} data={page.data} python={python} />
    </>
  );
}

export function TraceView({ id }: { id: string }) {
  const found = useAnswer(`trace ${id}`, (signal) => get("/api/v1/traces/{part}", { part: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the trace …">{(page) => <Traced id={id} page={page} />}</Answer>;
}

function Traced({ id, page }: { id: string; page: Shapes["TracePage"] }) {
  const [closed, setClosed] = useState<ReadonlySet<number>>(new Set());
  const hidden = new Set<number>();
  for (const node of page.nodes) if (node.parent !== null && (closed.has(node.parent) || hidden.has(node.parent))) hidden.add(node.number);
  const shown = page.nodes.filter((node) => !hidden.has(node.number));
  const parents = new Set(page.nodes.map((node) => node.parent));
  const toggle = (one: number) => setClosed((now) => new Set(now.has(one) ? [...now].filter((other) => other !== one) : [...now, one]));
  const checked = page.agreement.length > 0;
  const largest = Math.max(1e-12, ...page.nodes.map((node) => Math.abs(node.contribution ?? 0)));
  return (
    <>
      <h1>{page.target} <span>in {page.title}</span></h1>
      <p className="lead">{page.prompt.length ? <span className="text">{page.prompt.map((token, at) => <bdi key={at} className="chip">{token}</bdi>)}</span> : `Means over ${count(page.prompts, "prompt")}, by role.`}</p>
      <p className="note">Every line adds its number to the root along its path, with attention patterns and norm scales as they were. Children, biases and the rest are the whole; shares can exceed 100 % where terms cancel.</p>
      {checked && (
        <>
          <p>{page.agreement.map((one, at) => <span key={one.name}>{at > 0 && "; "}{one.name}: {interval(one)}</span>)} <span className="muted">is the rank correlation of predicted effects with what removing each part does, over {count(page.agreement[0]!.edges, "edge")}{page.agreement[0]!.texts > 1 ? `, interval over ${page.agreement[0]!.texts} prompts` : " of this prompt"}.</span></p>
        </>
      )}
      <div className="toolbar"><button type="button" onClick={() => setClosed(new Set())}>Open all</button> <button type="button" onClick={() => setClosed(new Set(page.nodes.filter((node) => node.depth > 0 && parents.has(node.number)).map((node) => node.number)))}>Close all but the first</button> <output>{shown.length} of {count(page.nodes.length, "node")} shown</output></div>
      <div className="scroll" tabIndex={0} role="region" aria-label="The tree">
        <table className="tree">
          <thead><tr><th scope="col" className="left">what</th><th scope="col" className="left">token or role</th><th scope="col">adds</th><th scope="col"><span className="hidden">size</span></th><th scope="col">of its parent</th><th scope="col">of the root</th><th scope="col" className="left">most by</th><th scope="col">biases</th><th scope="col">rest</th>{checked && <><th scope="col">removed, held</th><th scope="col">removed, live</th></>}</tr></thead>
          <tbody>
            {shown.map((node) => (
              <tr key={node.number}>
                <th scope="row" className={`left depth d${Math.min(node.depth, 8)}`}>{parents.has(node.number) ? <button type="button" className="plainbutton" aria-expanded={!closed.has(node.number)} onClick={() => toggle(node.number)}><span aria-hidden="true">{closed.has(node.number) ? "▸ " : "▾ "}</span>{node.name}</button> : <code>{node.name}</code>}<Follow id={id} page={page} node={node} /></th>
                <td className="left"><bdi>{node.place}</bdi></td><td>{number(node.contribution, true)}</td>
                <td className={`meter${(node.contribution ?? 0) < 0 ? " against" : ""}`}><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect className="bar" width={(100 * Math.abs(node.contribution ?? 0)) / largest} height="10" /></svg></td>
                <td>{node.parent === null ? "" : share(node.share)}</td><td>{share(node.share_of_root)}</td>
                <td className="left">{node.head === null ? "" : `head ${node.head} ${number(node.head_contribution, true)}`}</td>
                <td>{node.expanded ? number(node.bias, true) : ""}</td><td>{node.expanded ? number(node.remainder, true) : ""}</td>
                {checked && <><td>{node.frozen === null ? "" : number(node.frozen, true)}</td><td>{node.live === null ? "" : number(node.live, true)}</td></>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Pictures name={id} pictures={page.pictures} />
      <details>
        <summary>Every node as a table</summary>
        <DataTable rows={page.nodes} caption="Nodes of the trace" file={id} keyOf={(row) => String(row.number)}
          columns={[
            { name: "node", value: (row) => row.number }, { name: "parent", value: (row) => row.parent }, { name: "what", left: true, value: (row) => row.name }, { name: "kind", left: true, value: (row) => row.kind },
            { name: "place", left: true, value: (row) => row.place }, { name: "adds", value: (row) => row.contribution }, { name: "of its parent", value: (row) => row.share }, { name: "activation", value: (row) => row.activation },
            { name: "biases", value: (row) => row.bias }, { name: "rest", value: (row) => row.remainder },
            ...(checked ? [{ name: "predicted", value: (row: Shapes["TraceNodeShape"]) => row.predicted }, { name: "removed, held", value: (row: Shapes["TraceNodeShape"]) => row.frozen }, { name: "removed, live", value: (row: Shapes["TraceNodeShape"]) => row.live }] : []),
          ]} />
      </details>
      <Tools name={id} data={page} python={`from gossamer.attention import TraceResult\n\nfound = TraceResult.load(${JSON.stringify(page.file)})\nfor number, node in enumerate(found.trace.nodes):\n    print(number, node.parent, node.source, round(node.contribution, 3))`} />
    </>
  );
}

/** From a latent of a trace to its own attribution, where the run has its dictionaries, and a model can be asked. */
function Follow({ id, page, node }: { id: string; page: Shapes["TracePage"]; node: Shapes["TraceNodeShape"] }) {
  if (!around().served || !page.set || !page.text || !node.feature || node.back === null) return null;
  const query = new URLSearchParams({ text: page.text, feature: node.feature, position: String(node.back), from: `trace/${id}` });
  return <> <a className="follow" href={hashOf(["explore", page.set], query)} aria-label={`Take ${node.feature} apart`}>take apart</a></>;
}

const share = (value: number | null) => (value === null ? "" : `${number(100 * value)} %`);
