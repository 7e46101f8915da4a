/** A sweep of steering: what each method brings at which cost, with controls and the prompt baseline. */
import { useState } from "react";
import { type Shapes, get } from "../api";
import { count, interval, number, percent } from "../format";
import { Curves } from "../parts/curves";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go, usePlace } from "../route";

type Page = Shapes["SweepPage"];
const LIMITS = [0.1, 0.3, 1, 3, 10];

export default function SteeringView({ id }: { id: string }) {
  const { query } = usePlace();
  const asked = { benefit: query.get("benefit") ?? undefined, cost: query.get("cost") ?? undefined, reference: query.get("reference") ?? undefined, limit: query.get("limit") ? Number(query.get("limit")) : undefined };
  const found = useAnswer(`sweep ${id} ${JSON.stringify(asked)}`, (signal) => get("/api/v1/steering/sweeps/{sweep}", { sweep: id }, asked, signal));
  return <Answer of={found} waiting="Drawing bootstrap samples of the sweep …">{(page) => <Shown page={page} />}</Answer>;
}

function Shown({ page }: { page: Page }) {
  const { query } = usePlace();
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(query);
    next.set(name, value);
    go(["steering", page.id], next);
  };
  const [benefit, cost] = [page.benefits.find((one) => one.id === page.benefit)?.name ?? page.benefit, page.costs.find((one) => one.id === page.cost)?.name ?? page.cost];
  return (
    <>
      <h1>Steering towards {page.words.slice(0, 3).join(", ")}{page.words.length > 3 && ", …"} <span>in {page.model}</span></h1>
      <p className="lead"><Verdict page={page} /></p>
      <p className="note">
        {count(page.prompts.length, "prompt")} × {count(page.samples, "sample")} of {count(page.new_tokens, "token")}, the same draws in every cell; cost on {count(page.neutral_tokens, "token")} of text without the concept; at {page.sites.join(", ") || "no site yet"}. Intervals: 95 %, 1,000 bootstrap samples of prompts, samples and rows of text.
      </p>
      {page.done < page.planned && <p className="state warned">Not finished: {page.done} of {count(page.planned, "cell")} are measured. The same command goes on from here; until then curves lack coefficients.</p>}
      {page.judge_said && <p className="state">The judge {page.judge}: {page.judge_said}.</p>}
      <form className="fields" onSubmit={(event) => event.preventDefault()}>
        <label>Benefit <select value={page.benefit} onChange={(event) => change("benefit", event.target.value)}>{page.benefits.map((one) => <option key={one.id} value={one.id}>{one.name}</option>)}</select></label>
        <label>Cost <select value={page.cost} onChange={(event) => change("cost", event.target.value)}>{page.costs.map((one) => <option key={one.id} value={one.id}>{one.name}</option>)}</select></label>
        <label>Up to <select value={page.limit} onChange={(event) => change("limit", event.target.value)}>{[...new Set([...LIMITS, page.limit])].sort((a, b) => a - b).map((one) => <option key={one}>{one}</option>)}</select></label>
        {page.reference !== null && <label>Held against <select value={page.reference} onChange={(event) => change("reference", event.target.value)}>{page.references.map((one) => <option key={one} value={one}>{one.replaceAll("_", " ")}</option>)}</select></label>}
      </form>
      <section>
        <h2>What is gained at which cost</h2>
        {page.curves ? <Curves data={page.curves} /> : <Empty>No curves yet: {page.not_drawn}.</Empty>}
      </section>
      {page.methods.length > 0 && (
        <section>
          <h2>Methods</h2>
          <p className="note">At each budget a coefficient is chosen on one half of prompts and text and reported on the other half.</p>
          <DataTable
            rows={page.methods} caption="Methods of the sweep" file={`${page.id}-methods`} keyOf={(row) => row.method} filter={page.methods.length > 12} marked={(row) => row.method === page.reference}
            columns={[
              { name: "method", left: true, value: (row) => row.method, show: (row) => <>{row.method.replaceAll("_", " ")}{row.control && <> <small>control</small></>}{row.warned && <> <b title={row.explained ?? ""}>(!)</b></>}</> },
              { name: "area", value: (row) => row.area.value, show: (row) => interval(row.area) },
              { name: `less ${(page.reference ?? "").replaceAll("_", " ")}`, value: (row) => row.difference.value, show: (row) => interval(row.difference) },
              { name: "improves", left: true, value: (row) => (row.improves ? "yes" : "no") },
              ...(page.methods.some((one) => one.auroc !== null) ? [{ name: "AUROC of held-out texts", value: (row: Shapes["MethodShape"]) => row.auroc }, { name: "cosine with the mean difference", value: (row: Shapes["MethodShape"]) => row.cosine }] : []),
              ...(page.methods[0]?.chosen ?? []).flatMap((one, index) => [
                { name: `benefit at ≤ ${one.budget}`, value: (row: Shapes["MethodShape"]) => row.chosen[index]?.benefit.value ?? null, show: (row: Shapes["MethodShape"]) => (row.chosen[index] ? interval(row.chosen[index].benefit) : "–") },
                { name: `by (at ≤ ${one.budget})`, left: true, value: (row: Shapes["MethodShape"]) => row.chosen[index]?.amount || "nothing", show: (row: Shapes["MethodShape"]) => <>{row.chosen[index]?.amount || "nothing"} <small>cost {number(row.chosen[index]?.cost.value)}</small></> },
              ]),
            ]}
          />
          {page.methods.filter((one) => one.explained).map((one) => <p key={one.method} className={one.warned ? "state warned" : "note"}>{one.warned && "(!) "}{one.explained}</p>)}
        </section>
      )}
      {Object.keys(page.absent).length > 0 && <section><h2>Methods that there are none of</h2><ul className="plain">{Object.entries(page.absent).map(([name, reason]) => <li key={name}>{name.replaceAll("_", " ")}: {reason}</li>)}</ul></section>}
      {page.findings.some((one) => one.difference) && (
        <section>
          <h2>What was published of these methods</h2>
          <DataTable
            rows={page.findings} caption="Published findings" file={`${page.id}-findings`} keyOf={(row) => row.claim} filter={false}
            columns={[
              { name: "found in GPT-2 XL", left: true, value: (row) => row.claim }, { name: "method", left: true, value: (row) => row.method.replaceAll("_", " ") },
              { name: "difference in area", value: (row) => row.difference?.value ?? null, show: (row) => (row.difference ? interval(row.difference) : "–") }, { name: "here", left: true, value: (row) => row.verdict },
            ]}
          />
        </section>
      )}
      <section>
        <h2>What is written</h2>
        <Written page={page} />
      </section>
      <section>
        <h2>Every cell</h2>
        <details>
          <summary>{count(page.cells.length, "cell")} with all numbers</summary>
          <Cells page={page} benefit={benefit} cost={cost} />
        </details>
      </section>
      <Tools name={`${page.id}-sweep`} data={page} python={`from gossamer.steering import load_sweep, sweep_curves\n\nrecord = load_sweep(${JSON.stringify(page.file.replace(/[\\/][^\\/]*$/, ""))})\n${page.reference === null ? "print(record)" : `for curve in sweep_curves(record, ${JSON.stringify(page.reference)}, benefit=${JSON.stringify(page.benefit)}, cost=${JSON.stringify(page.cost)}, limit=float(${page.limit})):\n    print(curve)`}`} />
    </>
  );
}

/** The first line: whether anything is better than asking for it, and than chance. */
function Verdict({ page }: { page: Page }) {
  const prompt = page.methods.find((one) => one.method === "prompt");
  const best = page.methods.find((one) => !one.control && one.method !== "prompt");
  const control = page.methods.find((one) => one.control);
  if (!best) return <>{count(page.cells.length, "cell")} measured.</>;
  return (
    <>
      Largest area of a steered model: {best.method.replaceAll("_", " ")}, {interval(best.area)}
      {prompt && <>; asking for it in words: {interval(prompt.area)}</>}
      {control && <>; the best random control: {interval(control.area)}</>}.
    </>
  );
}

/** The first completions of a method at each coefficient, under those of the unsteered model. */
function Written({ page }: { page: Page }) {
  const methods = [...new Set(page.cells.map((one) => one.method))].filter((one) => one !== "unsteered");
  const [chosen, setChosen] = useState(page.methods.find((one) => !one.control)?.method ?? methods[0] ?? "");
  return (
    <>
      {methods.length > 0 && <p className="fields"><label>By <select value={chosen} onChange={(event) => setChosen(event.target.value)}>{methods.map((one) => <option key={one} value={one}>{one.replaceAll("_", " ")}</option>)}</select></label></p>}
      <p className="note">The first samples of “{page.prompts[0]}”, of {count(page.samples * page.prompts.length, "completion")} a cell.</p>
      <ul className="plain written">
        {page.cells.filter((one) => one.method === "unsteered" || one.method === chosen).map((one, index) => (
          <li key={index}><b>{one.method.replaceAll("_", " ")}</b> <small>{one.amount} {one.method !== "unsteered" && <>cost {interval(one.cost)}, benefit {interval(one.benefit)}</>}</small>{one.examples.map((text, at) => <p key={at}><bdi className="text">{text}</bdi></p>)}</li>
        ))}
      </ul>
    </>
  );
}

function Cells({ page, benefit, cost }: { page: Page; benefit: string; cost: string }) {
  const tasks = Object.keys(page.cells[0]?.accuracy ?? {});
  return (
    <DataTable
      rows={page.cells} caption="Cells of the sweep" file={`${page.id}-cells`} keyOf={(_, index) => String(index)}
      note={<p className="note">Benefit: {benefit}. Cost: {cost}. “norm” is the mean change over the mean length of what stands there; “off target” the mean change of other features, and how many move by more than 5 % of their largest value.</p>}
      columns={[
        { name: "method", left: true, value: (row) => row.method.replaceAll("_", " ") }, { name: "coefficient", left: true, value: (row) => row.amount },
        { name: "feature", left: true, value: (row) => row.feature }, { name: "norm", value: (row) => row.relative_norm },
        { name: "benefit", value: (row) => row.benefit.value, show: (row) => interval(row.benefit) }, { name: "cost", value: (row) => row.cost.value, show: (row) => interval(row.cost) },
        { name: "hit", value: (row) => row.hit, show: (row) => percent(row.hit) }, { name: "CE, nats", value: (row) => row.cross_entropy }, { name: "KL, nats", value: (row) => row.kl }, { name: "changed", value: (row) => row.changed, show: (row) => percent(row.changed) },
        { name: "log p of the text", value: (row) => row.log_probability }, { name: "distinct 2", value: (row) => row.distinct_2 }, { name: "repeated 4", value: (row) => row.repeated_4 }, { name: "zlib", value: (row) => row.zlib_ratio },
        { name: "off target", value: (row) => row.off_target, show: (row) => (row.moved === null ? "–" : `${number(row.off_target)}, ${row.moved} moved`) },
        ...tasks.map((task) => ({ name: task, value: (row: Shapes["CellShape"]) => row.accuracy[task] ?? null })),
        ...(page.judge ? [{ name: "judged", value: (row: Shapes["CellShape"]) => row.judged?.score ?? null, show: (row: Shapes["CellShape"]) => (row.judged ? `${number(row.judged.score)} of ${row.judged.rated}, ${row.judged.unparsed} unparsed, ${row.judged.error} errors` : "–") }] : []),
      ]}
    />
  );
}
