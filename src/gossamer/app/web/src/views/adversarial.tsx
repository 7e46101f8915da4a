/** Prompts that the model fails on, sought with its circuit and without, and where the circuit is furthest from it. */
import { Repairs } from "../adversarial/repair";
import { type Shapes, get } from "../api";
import { count, interval, number, percent } from "../format";
import { Curves } from "../parts/curves";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { hashOf } from "../route";

// Detectors that are listed at first, as in the report.
const MOST_DETECTORS = 12;

type Page = Shapes["AdversarialPage"];

export default function AdversarialView({ id }: { id: string }) {
  const found = useAnswer(`adversarial ${id}`, (signal) => get("/api/v1/adversarial/{study}", { study: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the study …">{(page) => <Shown page={page} />}</Answer>;
}

function Shown({ page }: { page: Page }) {
  const { budget, prompts, choice, edits } = page.settings;
  const own = page.arms.find((one) => one.letter === "D");
  return (
    <>
      <h1>Prompts that break {page.task} <span>in {page.model}</span></h1>
      <p className={`state ${page.adds ? "" : "warned"}`}>{page.verdict}</p>
      <p className="note">
        {count(page.searches, "search", "searches")} an arm on {prompts} prompts each, {budget} forward passes a search, {count(page.edits, "possible edit")} that keep the right answer known, at most {edits} in a recipe; {count(page.nodes, "node")} in {page.circuit ? <a href={hashOf(["circuit", page.circuit])}>the circuit</a> : "the circuit"}.{" "}
        {page.failed_before} prompts that the model fails on as they are and {page.refused} that the tokenizer joins were left out. Held-out prompts share no {page.apart} with those of the search{page.unseen_words ? ", and got words that it never had" : ""}.
      </p>
      <section>
        <h2>Six ways to search, at equal cost</h2>
        <DataTable
          rows={page.arms} caption="Arms" file={`${page.id}-arms`} keyOf={(row) => row.letter} filter={false} marked={(row) => row.letter === "D"}
          note={<p className="note">One recipe an arm: of its searches' recipes the one that breaks the most of {choice} further prompts. Intervals are Wilson's.</p>}
          columns={[
            { name: "arm", left: true, value: (row) => `${row.letter} ${row.name}` }, { name: "recipe", left: true, value: (row) => row.recipe.join(" + ") || "no edit" },
            { name: "held-out broken", value: (row) => row.breaks, show: (row) => `${row.breaks} of ${row.of}` }, { name: "share [95 %]", value: (row) => row.broken.value, show: (row) => interval(row.broken) },
            { name: "mean of searches", value: (row) => row.share, show: (row) => percent(row.share) }, { name: "margin after, logits", value: (row) => row.margin }, { name: "passes to success", value: (row) => row.first },
            { name: "different recipes", value: (row) => row.recipes }, { name: "passes of all", value: (row) => row.spent },
          ]}
        />
        <h2>How soon they succeed</h2>
        <Curves data={page.curves} />
        <h2>The circuit beside each</h2>
        <DataTable
          rows={page.comparisons} caption="The circuit's arm beside the others" file={`${page.id}-comparisons`} keyOf={(row) => row.letter} filter={false}
          note={<p className="note">The circuit is said to help only where it is ahead of A, B, C and E, by held-out prompts and from search to search, each with p below .05 (McNemar, exact, two-sided). Reading the circuit once cost {page.setup} passes that no search is charged with.</p>}
          columns={[
            { name: "beside", left: true, value: (row) => `${row.letter} ${row.name}` }, { name: "broken by it alone", value: (row) => row.more }, { name: "by the other alone", value: (row) => row.fewer }, { name: "p", value: (row) => row.p },
            { name: "searches ahead", value: (row) => row.searches_more }, { name: "behind", value: (row) => row.searches_fewer }, { name: "p of searches", value: (row) => row.searches_p }, { name: "ahead", left: true, value: (row) => (row.ahead ? "yes" : "no") },
          ]}
        />
      </section>
      <section>
        <h2>Prompts that the circuit's recipe breaks</h2>
        {page.failures.length === 0 ? <Empty>It breaks none of the held-out prompts{own && own.recipe.length === 0 ? ": no recipe was found" : ""}.</Empty> : <Failures page={page} of={own?.breaks ?? page.failures.length} />}
      </section>
      <section>
        <h2>What the circuit reads</h2>
        <Detectors page={page} most={MOST_DETECTORS} />
        {page.detectors.length > MOST_DETECTORS && <details><summary>All {count(page.detectors.length, "detector")}</summary><Detectors page={page} /></details>}
      </section>
      <section>
        <h2>Repair</h2>
        {page.repairs.length === 0 ? <Empty>Nothing was broken that could be repaired: no prompt failed whose right answer had stayed what it was.</Empty> : (
          <DataTable
            rows={page.repairs} caption="Repair" file={`${page.id}-repairs`} keyOf={(row) => String(row.detector)} filter={false}
            note={<p className="note">In prompts that the recipe breaks, a detector's nodes get their values of the clean prompt. Where the failure runs through it the margin comes back; as many random active latents should not bring it back.</p>}
            columns={[
              { name: "put back", left: true, value: (row) => (row.detector === null ? "the whole circuit" : `detector ${row.detector + 1}`) }, { name: "moved by the recipe", value: (row) => row.moved, show: (row) => number(row.moved, true) },
              { name: "margin restored", value: (row) => row.share, show: (row) => percent(row.share) }, { name: "by random latents", value: (row) => row.random, show: (row) => percent(row.random) },
              { name: "right again", value: (row) => row.mended, show: (row) => `${row.mended} of ${row.prompts}` }, { name: "by random ones", value: (row) => row.random_mended, show: (row) => `${row.random_mended} of ${row.prompts}` },
            ]}
          />
        )}
      </section>
      <section>
        <h2>Where the circuit is furthest from the model</h2>
        {page.worst ? <Worst page={page} worst={page.worst} /> : <Empty>Not sought: <code>gossamer adversarial … --worst-case</code> does.</Empty>}
      </section>
      <Tools name={`${page.id}`} data={page} python={`from gossamer.circuits.adversarial.results import FORMAT\n\nfound = FORMAT.load(${JSON.stringify(page.file)})\nprint(found.verdict)\nfor arm in found.arms:\n    print(arm, arm.broken)`} />
    </>
  );
}

/** The strongest detectors, or all of them. */
function Detectors({ page, most }: { page: Page; most?: number }) {
  return (
    <DataTable
      rows={page.detectors.slice(0, most).map((one, index) => ({ ...one, place: index + 1 }))} caption="Detectors" file={`${page.id}-detectors`} keyOf={(row) => String(row.place)} filter={(most ?? page.detectors.length) > 15}
      note={<p className="note">Nodes whose activations go together with effects of one sign act as one detector. What it reads: share of |gradient × embedding| by role, down to 80 %. A shortcut reads words of one class only.</p>}
      columns={[
        { name: "detector", value: (row) => row.place }, { name: "nodes", left: true, value: (row) => row.nodes.join(" "), show: (row) => <><code>{row.nodes[0]}</code>{row.nodes.length > 1 && <small title={row.nodes.join(" ")}> and {row.nodes.length - 1} more</small>}</> },
        { name: "effect", value: (row) => row.effect, show: (row) => number(row.effect, true) }, { name: "reads", left: true, value: (row) => Object.entries(row.reads).map(([role, share]) => `${role} ${percent(share)}`).join(", ") },
        { name: "shortcut", left: true, value: (row) => (row.shortcut ? "yes" : "") },
      ]}
    />
  );
}

function Failures({ page, of }: { page: Page; of: number }) {
  const most = Math.max(...page.failures.flatMap((one) => [Math.abs(one.before ?? 0), Math.abs(one.after ?? 0)]), 1e-9);
  return (
    <>
      <ol className="plain failures">
        {page.failures.map((one, index) => (
          <li key={index} className="panel">
            <dl className="pairs">
              <dt>before</dt><dd><Line tokens={one.clean} /> <Margin value={one.before} most={most} /></dd>
              <dt>after</dt><dd><Line tokens={one.edited} /> <Margin value={one.after} most={most} /></dd>
              <dt>right</dt><dd><bdi className="chip">{one.answer}</bdi> <span className="muted">model prefers</span> <bdi className="chip">{one.said}</bdi></dd>
            </dl>
            <Repairs failure={one} detectors={page.detectors} nodes={page.nodes} file={`${page.id}-repair-${index + 1}`} />
          </li>
        ))}
      </ol>
      <p className="note">Shown: {page.failures.length} of {count(of, "prompt")} that it breaks. Tokens that differ are underlined and marked *. The margin is the logit of the right answer less that of the best wrong one. "Repair" shows the margin with the nodes' clean values put back, token by token of their roles, as the study measured it, beside as many other latents that are active at the same roles: these should not repair.</p>
      <details>
        <summary>As a table</summary>
        <DataTable
          rows={page.failures} caption="Broken prompts" file={`${page.id}-failures`} keyOf={(_, index) => String(index)}
          columns={[
            { name: "before", left: true, value: (row) => row.clean.map((one) => one.token).join(" ") }, { name: "after", left: true, value: (row) => row.edited.map((one) => one.token).join(" ") },
            { name: "right", left: true, value: (row) => row.answer }, { name: "model prefers", left: true, value: (row) => row.said }, { name: "margin before", value: (row) => row.before }, { name: "margin after", value: (row) => row.after },
          ]}
        />
      </details>
    </>
  );
}

function Line({ tokens }: { tokens: Shapes["MarkedToken"][] }) {
  return <span className="tokens">{tokens.map((one, index) => <bdi key={index} className={one.changed ? "chip changed" : "chip"}>{one.token}{one.changed && <sup>*</sup>}</bdi>)}</span>;
}

function Margin({ value, most }: { value: number | null; most: number }) {
  return <span className="margin"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" className={(value ?? 0) < 0 ? "against" : ""}><rect className="bar" width={(100 * Math.abs(value ?? 0)) / most} height="8" /></svg> margin {number(value, true)}</span>;
}

function Worst({ page, worst }: { page: Page; worst: NonNullable<Page["worst"]> }) {
  return (
    <DataTable
      rows={worst.prompts} caption="Worst prompts of the circuit" file={`${page.id}-worst`} keyOf={(_, index) => String(index)} filter={false} marked={(row) => row.how === "found"}
      note={<p className="note">KL (model ‖ circuit) at the answer, ablation {worst.ablation}: mean {number(worst.mean)}, 95th percentile {number(worst.p95)}, 99th {number(worst.p99)} nats of {count(worst.drawn, "drawn prompt")}. The one that was found is a drawn prompt after {worst.recipe.join(" + ") || "no edit"}, of {count(worst.tried, "edited prompt")} tried. Whether the model is right there does not matter.</p>}
      columns={[
        { name: "how", left: true, value: (row) => row.how }, { name: "prompt", left: true, value: (row) => row.text }, { name: "right", left: true, value: (row) => row.answer }, { name: "wrong", left: true, value: (row) => row.incorrect },
        { name: "KL, nats", value: (row) => row.kl }, { name: "metric, model", value: (row) => row.full }, { name: "metric, circuit", value: (row) => row.circuit },
      ]}
    />
  );
}
