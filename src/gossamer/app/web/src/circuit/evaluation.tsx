/** How a circuit was tested: error budget, curves of every method, and the report's tables. */
import { useState } from "react";
import { type Shapes, get } from "../api";
import { interval, number } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { Tables } from "../parts/study";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";

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
            { name: "faithfulness", value: (row) => row.faithfulness.value, show: (row) => interval(row.faithfulness) },
            { name: "to the dictionaries", value: (row) => row.faithfulness_to_dictionaries.value },
            { name: `${found.metric}, ${found.unit}`, value: (row) => row.metric.value, show: (row) => interval(row.metric) },
            { name: "accuracy", value: (row) => row.accuracy }, { name: "first choice", value: (row) => row.top1 }, { name: "KL, nats", value: (row) => row.kl },
            { name: "per-prompt error", value: (row) => row.prompt_error.value, show: (row) => interval(row.prompt_error) },
          ]}
        />
      </section>
      {found.curves.length > 0 && (
        <section>
          <h2>Faithfulness at every size</h2>
          <Curves curves={found.curves} />
          <details>
            <summary>As a table</summary>
            <DataTable
              rows={points} caption="Circuits of every method" file={`${page.id}-curves`} keyOf={(row) => `${row.method} ${row.size}`}
              columns={[
                { name: "method", left: true, value: (row) => row.method }, { name: "nodes", value: (row) => row.size }, { name: "latents", value: (row) => row.unique_latents },
                { name: "faithfulness", value: (row) => row.task_metrics.faithfulness.value, show: (row) => interval(row.task_metrics.faithfulness) },
                { name: "accuracy", value: (row) => row.task_metrics.accuracy }, { name: "KL, nats", value: (row) => row.task_metrics.kl },
              ]}
            />
          </details>
          <DataTable
            rows={found.curves} caption="Areas of every method" file={`${page.id}-areas`} keyOf={(row) => row.method} filter={false}
            columns={[{ name: "method", left: true, value: (row) => row.method }, { name: "CPR", value: (row) => row.cpr }, { name: "CMD", value: (row) => row.cmd }, { name: "seconds", value: (row) => row.seconds }]}
          />
        </section>
      )}
      <Tables name={page.id} tables={found.tables} />
      <Tools name={`${page.id}-evaluation`} data={found} python={`from gossamer.circuits.results import Findings\n\nfindings = Findings.load(${JSON.stringify(page.findings_file)})\nfor row in findings.budget:\n    print(row)\nfor curve in findings.curves:\n    print(curve)`} />
    </>
  );
}

const BOX = { width: 760, height: 340, left: 52, right: 12, top: 12, bottom: 42 };

/** Faithfulness over the number of nodes, a line a method; each can be taken out. */
function Curves({ curves }: { curves: Shapes["CurveShape"][] }) {
  const [hidden, setHidden] = useState(new Set<string>());
  const shown = curves.map((curve, index) => ({ curve, index })).filter(({ curve }) => !hidden.has(curve.method));
  const points = curves.flatMap((curve) => curve.points);
  const sizes = points.map((point) => point.size).filter((size) => size > 0);
  const values = points.flatMap((point) => point.task_metrics.faithfulness.value ?? []);
  if (!sizes.length) return null;
  const [small, large] = [Math.log(Math.min(...sizes)), Math.log(Math.max(...sizes))];
  const [low, high] = [Math.min(0, ...values), Math.max(1, ...values)];
  const x = (size: number) => BOX.left + ((BOX.width - BOX.left - BOX.right) * (Math.log(size) - small)) / (large - small || 1);
  const y = (value: number) => BOX.top + ((BOX.height - BOX.top - BOX.bottom) * (high - value)) / (high - low);
  const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000].filter((size) => Math.log(size) >= small - 0.01 && Math.log(size) <= large + 0.01);
  const toggle = (method: string) => setHidden((now) => new Set(now.has(method) ? [...now].filter((one) => one !== method) : [...now, method]));
  return (
    <figure className="curves">
      <div className="scroll" tabIndex={0} role="region" aria-label="Curves">
        <svg viewBox={`0 0 ${BOX.width} ${BOX.height}`} role="img" aria-label="Faithfulness of each method's circuits over their number of nodes; the table below has the numbers">
          {[0, 0.2, 0.4, 0.6, 0.8, 1].map((value) => <g key={value}><line className="grid" x1={BOX.left} x2={BOX.width - BOX.right} y1={y(value)} y2={y(value)} /><text x={BOX.left - 6} y={y(value) + 4} textAnchor="end">{value}</text></g>)}
          {ticks.map((size) => <g key={size}><line className="grid" x1={x(size)} x2={x(size)} y1={BOX.top} y2={BOX.height - BOX.bottom} /><text x={x(size)} y={BOX.height - BOX.bottom + 16} textAnchor="middle">{size.toLocaleString("en-US")}</text></g>)}
          <text x={(BOX.left + BOX.width - BOX.right) / 2} y={BOX.height - 6} textAnchor="middle">nodes</text>
          <text transform={`translate(13 ${(BOX.top + BOX.height - BOX.bottom) / 2}) rotate(-90)`} textAnchor="middle">faithfulness</text>
          {shown.map(({ curve, index }) => (
            <g key={curve.method} className={`line l${index % 11}${index === 0 ? " first" : ""}`}>
              <polyline points={curve.points.filter((point) => point.size > 0 && point.task_metrics.faithfulness.value !== null).map((point) => `${x(point.size)},${y(point.task_metrics.faithfulness.value ?? 0)}`).join(" ")} />
              {curve.points.filter((point) => point.size > 0 && point.task_metrics.faithfulness.value !== null).map((point) => <circle key={point.size} cx={x(point.size)} cy={y(point.task_metrics.faithfulness.value ?? 0)} r={index === 0 ? 3.4 : 2.4}><title>{`${curve.method}, ${point.size} nodes: ${number(point.task_metrics.faithfulness.value)}`}</title></circle>)}
            </g>
          ))}
        </svg>
      </div>
      <div className="legend">{curves.map((curve, index) => <label key={curve.method} className={`l${index % 11}`}><input type="checkbox" checked={!hidden.has(curve.method)} onChange={() => toggle(curve.method)} /><i />{curve.method}</label>)}</div>
    </figure>
  );
}
