/** A circuit: its map with what a reader makes of it, its nodes and edges as tables, and how it was tested. */
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type Shapes, get, put } from "../api";
import { EvaluationTab } from "../circuit/evaluation";
import { LatentCard } from "../circuit/card";
import { CircuitMap } from "../circuit/map";
import { type MarksOf, group, label, pin, useMarks } from "../circuit/marks";
import { Patch } from "../circuit/patch";
import { Pinned, titleOf } from "../circuit/pinned";
import { count, number } from "../format";
import { Exports } from "../parts/exports";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Copy, Tools } from "../parts/tools";
import { hashOf, usePlace } from "../route";
import { around } from "../surroundings";

const TABS: [string, string][] = [["map", "Map"], ["nodes", "Nodes"], ["edges", "Edges"], ["evaluation", "How it was tested"]];

export function CircuitView({ id, tab }: { id: string; tab: string }) {
  const found = useAnswer(`circuit ${id}`, (signal) => get("/api/v1/circuits/{circuit}", { circuit: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the circuit …">{(page) => <Shown key={page.digest} page={page} tab={tab} />}</Answer>;
}

function Shown({ page, tab }: { page: Shapes["CircuitPage"]; tab: string }) {
  const { query } = usePlace();
  const path = ["circuit", page.id, ...(tab === "map" ? [] : [tab])];
  const of = useMarks(page, path, query);
  const [chosen, setChosen] = useState<string[]>([]);
  const to = (name: string) => hashOf(["circuit", page.id, ...(name === "map" ? [] : [name])], query);
  return (
    <>
      <h1>{page.task} <span>in {page.model}</span></h1>
      {page.summary && <p className="lead">{page.summary}</p>}
      {page.footnote && <p className="note">{page.footnote}</p>}
      {page.warnings.length > 0 && <details className="state warned" open><summary>{count(page.warnings.length, "caution")}</summary><ul>{page.warnings.map((one) => <li key={one}>{one}</li>)}</ul></details>}
      {of.foreign && <p className="state" role="status">The address has marks of another version of this circuit; they are left out.</p>}
      <nav className="tabs" aria-label="Parts of the circuit">{TABS.map(([name, title]) => <a key={name} href={to(name)} aria-current={tab === name ? "page" : undefined}>{title}</a>)}</nav>
      {tab === "map" && <MapTab page={page} of={of} chosen={chosen} setChosen={setChosen} />}
      {tab === "nodes" && <NodesTab page={page} of={of} />}
      {tab === "edges" && <EdgesTab page={page} />}
      {tab === "evaluation" && <EvaluationTab page={page} />}
    </>
  );
}

function MapTab({ page, of, chosen, setChosen }: { page: Shapes["CircuitPage"]; of: MarksOf; chosen: string[]; setChosen: (nodes: string[]) => void }) {
  const labelled = useRef<HTMLInputElement>(null);
  const picture = useRef<() => string | null>(() => null);
  // A key that follows a choice at once must mean that choice, drawn or not.
  const picked = useRef(chosen);
  const choose = (nodes: string[]) => {
    picked.current = nodes;
    setChosen(nodes);
  };
  const one = chosen.length === 1 ? chosen[0]! : null;
  const { change, undo, redo } = of;
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      const at = event.composedPath()[0] as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) return;
      const nodes = picked.current;
      if (event.key === "p" && nodes.length) change((now) => nodes.reduce((marks, name) => pin(name)(marks), now));
      else if (event.key === "l" && nodes.length === 1) { labelled.current?.focus(); event.preventDefault(); }
      else if (event.key === "u") undo?.();
      else if (event.key === "U") redo?.();
    };
    const keys = around().keys();
    keys.addEventListener("keydown", key as EventListener);
    return () => keys.removeEventListener("keydown", key as EventListener);
  }, [change, undo, redo]);
  if (!page.map.nodes.length) return <Empty>This circuit has no nodes: nothing of the task was kept.</Empty>;
  const nodes = JSON.stringify(of.marks.pinned.length ? of.marks.pinned : page.map.nodes.map((node) => node.id));
  return (
    <div className="workspace">
      <div className="stage">
        <CircuitMap data={page.map} marks={of.marks} onChosen={choose} picture={picture} />
        {(page.hidden_nodes > 0 || page.hidden_edges > 0) && <p className="note">Left out of the map: {count(page.hidden_nodes, "weakest node")} and {count(page.hidden_edges, "edge")}.</p>}
        <p className="keys note"><kbd>P</kbd> pins the chosen node, <kbd>L</kbd> names it, <kbd>U</kbd> undoes, <kbd>Shift U</kbd> redoes; the map's own keys are under “Keys”.</p>
        <Patch id={page.id} chosen={chosen} pinned={of.marks.pinned} metric={page.metric} unit={page.unit} />
      </div>
      <aside>
        <Pinned page={page} of={of} choose={(name) => choose([name])} />
        {one ? <NodePanel page={page} name={one} of={of} labelled={labelled} /> : <section className="panel"><p className="note">{chosen.length > 1 ? `A group of ${chosen.length} nodes: unfold it to look at one of them.` : "Choose a node in the map for its card."}</p></section>}
        <Keep page={page} of={of} />
      </aside>
      <Exports page={page} picture={() => picture.current()} />
      <Tools
        name={`${page.id}-circuit`} data={{ ...page, marks: of.marks }}
        python={`from gossamer import Node\nfrom gossamer.circuits.evaluate.rerun import restore_circuit\n\nfound = restore_circuit(${JSON.stringify(page.file)})\nnames = ${nodes}\nnodes = found.nodes.select(found.nodes.find([Node.parse(name) for name in names]))\nmeasured = found.choice  # for choosing; found.evaluator has the held-out prompts\nprint(measured.task_metrics("pinned nodes", measured.prompt_metrics(nodes)))`}
      />
    </div>
  );
}

function NodePanel({ page, name, of, labelled }: { page: Shapes["CircuitPage"]; name: string; of: MarksOf; labelled: React.RefObject<HTMLInputElement | null> }) {
  const found = useAnswer(`node ${page.id} ${name}`, (signal) => get("/api/v1/circuits/{circuit}/nodes", { circuit: page.id }, { name }, signal));
  const { marks, change } = of;
  const pinned = marks.pinned.includes(name);
  const own = marks.groups.find((one) => one.nodes.includes(name))?.name ?? "";
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const [said, title] = [String(given.get("label") ?? ""), String(given.get("group") ?? "").trim()];
    change((now) => group([name], title)(label(name, said)(now)));
    (document.activeElement as HTMLElement | null)?.blur();
  };
  return (
    <section className="panel node" aria-label="The chosen node">
      <header><h3><bdi>{titleOf(page, marks, name)}</bdi></h3><code>{name}</code></header>
      <form className="fields" key={`${name} ${marks.labels[name] ?? ""} ${own}`} onSubmit={submit}>
        <button type="button" aria-pressed={pinned} onClick={() => change(pin(name))}>{pinned ? "Unpin" : "Pin"}</button>
        <label>Label <input ref={labelled} name="label" maxLength={200} defaultValue={marks.labels[name] ?? ""} /></label>
        <label>Group <input name="group" maxLength={120} list="groups" defaultValue={own} /></label>
        <datalist id="groups">{marks.groups.map((one) => <option key={one.name} value={one.name} />)}</datalist>
        <button type="submit">Set</button>
      </form>
      {page.findings === null ? <Empty>What this node stands for was not written yet: there are no findings beside the circuit.</Empty> : (
        <Answer of={found} waiting="Reading its card …">
          {(node) => (
            <>
              <dl className="pairs">
                <dt>faithfulness lost without it</dt><dd>{number(node.effect, true)}</dd>
                <dt>activation at {node.role}</dt><dd>{number(node.activation)}, ablated to {number(node.ablated)}</dd>
                <dt>writes to the answer itself</dt><dd>{number(node.direct, true)}</dd>
                {node.recurrence !== null && <><dt>in resampled circuits</dt><dd>{number(node.recurrence)}</dd></>}
                {node.generic.length > 0 && <><dt>in circuits of other tasks too</dt><dd>{node.generic.join(", ")}</dd></>}
              </dl>
              <LatentCard card={node.card} link={page.live === null ? hashOf(["latent", page.id, node.card.feature]) : undefined} />
            </>
          )}
        </Answer>
      )}
    </section>
  );
}

/** Marks are in the address; a name keeps them in the run's folder as well. */
function Keep({ page, of }: { page: Shapes["CircuitPage"]; of: MarksOf }) {
  const [names, retry] = useAnswer(`views ${page.id} ${page.digest}`, (signal) => get("/api/v1/circuits/{circuit}/views", { circuit: page.id }, undefined, signal));
  const [said, setSaid] = useState("");
  const known = names.state === "answered" ? names.value.names : [];
  const tell = (error: unknown) => setSaid(error instanceof Error ? error.message : String(error));
  const keep = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget).get("name") ?? "");
    put("/api/v1/circuits/{circuit}/views/{name}", { circuit: page.id, name }, of.marks).then(() => { setSaid(`kept as views/${name}.json`); retry(); }, tell);
  };
  const open = (name: string) => {
    if (!name) return;
    get("/api/v1/circuits/{circuit}/views/{name}", { circuit: page.id, name }).then((view) => { of.change(() => ({ pinned: view.pinned, groups: view.groups, labels: view.labels })); setSaid(`opened ${name}`); }, tell);
  };
  return (
    <section className="panel keep" aria-label="Keep this view">
      <form className="fields" onSubmit={keep}>
        <label>Keep as <input name="name" required pattern="[A-Za-z0-9_\-]{1,64}" title="letters, digits, - and _" /></label>
        <button type="submit" disabled={!around().served}>Keep</button>
        {known.length > 0 && <label>Open <select value="" onChange={(event) => open(event.target.value)}><option value="">a kept view …</option>{known.map((name) => <option key={name}>{name}</option>)}</select></label>}
        {around().shared && <Copy text={location.href} label="Copy address" />}
      </form>
      <p className="note" role="status">{said}</p>
    </section>
  );
}

function NodesTab({ page, of }: { page: Shapes["CircuitPage"]; of: MarksOf }) {
  const pinned = new Set(of.marks.pinned);
  return (
    <DataTable
      rows={page.map.nodes} caption="Nodes of the circuit" file={`${page.id}-nodes`} keyOf={(node) => node.id} marked={(node) => pinned.has(node.id)}
      columns={[
        { name: "pinned", left: true, value: (node) => (pinned.has(node.id) ? "yes" : "no"), show: (node) => <input type="checkbox" aria-label={`pin ${node.id}`} checked={pinned.has(node.id)} onChange={() => of.change(pin(node.id))} /> },
        { name: "node", left: true, value: (node) => node.id, show: (node) => <code>{node.id}</code> },
        { name: "label or words", left: true, value: (node) => of.marks.labels[node.id] ?? node.words.join(" · ") },
        { name: "group", left: true, value: (node) => of.marks.groups.find((one) => one.nodes.includes(node.id))?.name ?? "" },
        { name: "effect", value: (node) => node.effect }, { name: "direct", value: (node) => node.direct }, { name: "activation", value: (node) => node.activation },
        { name: "ablated to", value: (node) => node.ablated }, { name: "recurrence", value: (node) => node.recurrence },
      ]}
      note={<p className="note">Effect: faithfulness lost on held-out prompts when the node alone is removed. Direct: what it writes towards the answer by itself, in {page.unit || "units of the metric"}. Recurrence: share of the circuits of resampled prompts that hold it.</p>}
    />
  );
}

function EdgesTab({ page }: { page: Shapes["CircuitPage"] }) {
  if (!page.map.edges.length) return <Empty>No edges were measured for this circuit.</Empty>;
  const target = (name: string) => (name === page.map.metric.id ? page.metric : name);
  return (
    <DataTable
      rows={page.map.edges} caption="Edges of the circuit" file={`${page.id}-edges`} keyOf={(edge) => `${edge.source} ${edge.target}`}
      columns={[
        { name: "from", left: true, value: (edge) => edge.source, show: (edge) => <code>{edge.source}</code> },
        { name: "to", left: true, value: (edge) => target(edge.target), show: (edge) => <code>{target(edge.target)}</code> },
        { name: "weight", value: (edge) => edge.weight }, { name: "influence", value: (edge) => edge.influence }, { name: "same token", value: (edge) => edge.direct },
        { name: "heads", left: true, value: (edge) => edge.heads.map((one) => `${one.layer}.${one.head} ${number(one.weight, true)}`).join(", ") }, { name: "other heads", value: (edge) => edge.others },
      ]}
      note={<p className="note">Weight: the effect in units of the target. Influence: what the edge carries on to the {page.metric}.{page.hidden_edges > 0 && ` ${page.hidden_edges} weaker edges are not listed.`}</p>}
    />
  );
}
