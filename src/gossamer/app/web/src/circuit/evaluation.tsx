/** How a circuit was tested: error budget, curves of every method, and the report's tables. */
import { type Shapes, get } from "../api";
import { interval } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { Curves } from "../parts/curves";
import { Tables } from "../parts/study";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { footnoteOf, measured } from "./measured";

type Metrics = Shapes["Metrics"];

export function EvaluationTab({ page }: { page: Shapes["CircuitPage"] }) {
  const found = useAnswer(`evaluation ${page.id}`, (signal) => get("/api/v1/circuits/{circuit}/evaluation", { circuit: page.id }, undefined, signal));
  if (page.findings === null) return <Empty>This circuit was found and not evaluated yet: its folder has no findings of it. Let <code>gossamer circuit</code> run to its end, or measure it now with <code>gossamer evaluate-circuit {page.file}</code>.</Empty>;
  return <Answer of={found} waiting="Reading the findings …">{(one) => <Shown page={page} found={one} />}</Answer>;
}

function Shown({ page, found }: { page: Shapes["CircuitPage"]; found: Shapes["CircuitTests"] }) {
  const points = found.curves.flatMap((curve) => curve.points.map((point) => ({ method: curve.method, ...point })));
  return (
    <>
      <section>
        <h2>Where the behaviour is lost</h2>
        <DataTable
          rows={found.budget} caption="Error budget" file={`${page.id}-budget`} keyOf={(row) => row.name} filter={false} marked={(row) => row.name === "circuit"}
          columns={[
            { name: "network", left: true, value: (row) => row.name },
            ...measured<Metrics>((row) => row), { name: "first choice", value: (row) => row.top1 },
            { name: "to the dictionaries", value: (row) => row.faithfulness_to_dictionaries.value },
            { name: `${found.metric}, ${found.unit}`, value: (row) => row.metric.value, show: (row) => interval(row.metric) },
          ]}
          footnote={footnoteOf(found.budget, found.footnote)}
        />
      </section>
      {found.curves.length > 0 && (
        <section>
          <h2>Faithfulness at every size</h2>
          {found.drawn && <Curves data={found.drawn} />}
          <details>
            <summary>As a table</summary>
            <DataTable
              rows={points} caption="Circuits of every method" file={`${page.id}-curves`} keyOf={(row) => `${row.method} ${row.size}`}
              columns={[
                { name: "method", left: true, value: (row) => row.method }, { name: "nodes", value: (row) => row.size }, { name: "latents", value: (row) => row.unique_latents },
                ...measured<(typeof points)[number]>((row) => row.task_metrics),
              ]}
              footnote={footnoteOf(points.map((row) => row.task_metrics), found.footnote)}
            />
          </details>
          <DataTable
            rows={found.curves} caption="Areas of every method" file={`${page.id}-areas`} keyOf={(row) => row.method} filter={false}
            columns={[{ name: "method", left: true, value: (row) => row.method }, { name: "CPR", value: (row) => row.cpr }, { name: "CMD", value: (row) => row.cmd }, { name: "seconds", value: (row) => row.seconds }]}
          />
        </section>
      )}
      {found.cases.length > 0 && (
        <section>
          <h2>Kinds of prompts</h2>
          <DataTable
            rows={found.cases} caption="The circuit on each kind of prompts" file={`${page.id}-cases`} keyOf={(row) => row.name} filter={found.cases.length > 15}
            columns={[
              { name: "case", left: true, value: (row) => row.name, show: (row) => row.name || "–" }, { name: "prompts", value: (row) => row.prompts }, { name: `${found.metric}, full model`, value: (row) => row.full.metric.value },
              ...measured<Shapes["CaseShape"]>((row) => row.circuit), { name: "accuracy, full model", value: (row) => row.full.accuracy },
            ]}
            footnote={footnoteOf(found.cases.map((row) => row.circuit), found.footnote)}
          />
        </section>
      )}
      <Tables name={page.id} tables={found.tables} />
      <Tools name={`${page.id}-evaluation`} data={found} python={`from gossamer.circuits.results import Findings\n\nfindings = Findings.load(${JSON.stringify(page.findings_file)})\nfor row in findings.budget:\n    print(row)\nfor curve in findings.curves:\n    print(curve)`} />
    </>
  );
}
