/** What the run folder holds, and whether it is whole. */
import type { Shapes } from "../api";
import { bytes, count, when } from "../format";
import { DataTable } from "../parts/table";
import { Copy, Tools } from "../parts/tools";
import { Empty } from "../parts/states";
import { hashOf } from "../route";
import { VIEWS, type View, viewOf } from ".";

const STATES: Record<Shapes["PartFacts"]["state"], string> = { whole: "whole", damaged: "damaged", newer: "of a newer version", "not read": "not read" };

export function Home({ run }: { run: Shapes["Overview"] }) {
  const wrong = run.parts.filter((part) => part.state === "damaged" || part.state === "newer");
  return (
    <>
      <h1>{run.run}</h1>
      <p className="lead">{count(run.parts.length, "file of results", "files of results")} in <code>{run.folder}</code> <Copy text={run.folder} label="Copy path" /></p>
      {run.read_only && <p className="state">Read only: {run.read_only}</p>}
      {wrong.length > 0 && (
        <section className="state failed" role="alert">
          <h2>{count(wrong.length, "file")} cannot be shown</h2>
          <ul>{wrong.map((part) => <li key={part.id}>{part.message}</li>)}</ul>
        </section>
      )}
      <Models models={run.models} name={run.run} />
      {VIEWS.map((view) => <Files key={view.path} view={view} parts={run.parts.filter((part) => viewOf(part) === view)} />)}
      <section>
        <h2>All files</h2>
        {run.parts.length === 0 ? (
          <Empty>No results here yet: run <code>gossamer circuit MODEL --task TASK --out {run.folder}</code>, or <code>gossamer demo</code> for a first one.</Empty>
        ) : (
          <DataTable
            rows={run.parts} caption="Files of the run" file={`${run.run}-files`} keyOf={(part) => part.id}
            columns={[
              { name: "file", left: true, value: (part) => part.path, show: (part) => { const view = viewOf(part); return view ? <a href={hashOf([view.path, part.id])}><code>{part.path}</code></a> : <code>{part.path}</code>; } },
              { name: "holds", left: true, value: (part) => part.kind },
              { name: "state", left: true, value: (part) => STATES[part.state], show: (part) => <span className={`tag ${part.state.replace(" ", "-")}`}>{STATES[part.state]}</span> },
              { name: "size", value: (part) => part.bytes, show: (part) => bytes(part.bytes) },
              { name: "changed", value: (part) => part.modified, show: (part) => when(part.modified) },
              { name: "what", left: true, value: (part) => part.message ?? part.facts.join(", ") },
            ]}
          />
        )}
      </section>
      {run.pages.length > 0 && (
        <section>
          <h2>Pages that were written</h2>
          <p className="note">They stand alone: open them from the folder.</p>
          <ul className="plain">{run.pages.map((page) => <li key={page}><code>{page}</code> <Copy text={`${run.folder}/${page}`} label="Copy path" /></li>)}</ul>
        </section>
      )}
      <Tools name={`${run.run}-overview`} data={run} python={`from gossamer.app import RunFolder\n\nrun = RunFolder(${JSON.stringify(run.folder)})\nfor part in run.parts().values():\n    print(part.id, part.kind, run.checked(part).state)`} />
      <p className="note">{Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(", ")}</p>
    </>
  );
}

/** Which models the run is of, and what it holds of each; no more than a line where there is one. */
function Models({ models, name }: { models: Shapes["ModelFacts"][]; name: string }) {
  if (models.length === 0) return null;
  const kinds = [...new Set(models.flatMap((model) => model.files.map((one) => one.kind)))].sort();
  return (
    <section>
      <h2>Models</h2>
      <DataTable
        rows={models} caption="Models of the run" file={`${name}-models`} filter={false} keyOf={(model) => model.name}
        columns={[
          { name: "model", left: true, value: (model) => model.name }, { name: "tasks", left: true, value: (model) => model.tasks.join(", "), show: (model) => model.tasks.join(", ") || "–" },
          ...kinds.map((kind) => ({ name: kind, value: (model: Shapes["ModelFacts"]) => model.files.find((one) => one.kind === kind)?.count ?? 0 })),
        ]}
      />
    </section>
  );
}

function Files({ view, parts }: { view: View; parts: Shapes["PartFacts"][] }) {
  if (parts.length === 0) return null;
  return (
    <section>
      <h2>{view.name}</h2>
      <ul className="cards">
        {parts.map((part) => (
          <li key={part.id}>
            <a href={hashOf([view.path, part.id])}><b>{part.facts[0] ?? part.id}</b></a>
            <span>{[...(view.kinds.length > 1 ? [part.kind] : []), ...part.facts.slice(1)].join(" · ")}</span>
            <small>{part.path}, {when(part.modified)}</small>
          </li>
        ))}
      </ul>
    </section>
  );
}
