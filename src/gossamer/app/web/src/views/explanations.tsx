/** Explanations: what was said of which latent, how true it is, and how many answers failed. */
import { type FormEvent } from "react";
import { type Shapes, get } from "../api";
import { count, interval, number, percent } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go, hashOf, usePlace } from "../route";

type Page = Shapes["ExplanationsPage"];
type Row = Shapes["ExplanationShape"];
type Score = Shapes["ScoreShape"];

export default function ExplanationsView({ id, feature }: { id: string; feature?: string }) {
  const { query } = usePlace();
  const q = query.get("q") ?? "";
  const asked = { q, feature, limit: 500 };
  const found = useAnswer(`explanations ${id} ${JSON.stringify(asked)}`, (signal) => get("/api/v1/explanations/{study}", { study: id }, asked, signal));
  return <Answer of={found} waiting="Reading the explanations …">{(page) => (feature ? <OneLatent page={page} feature={feature} /> : <All page={page} q={q} />)}</Answer>;
}

const python = (page: Page) => `from gossamer.explain.records import ExplainedFeatures\nfrom gossamer.explain.summary import summary\n\nfound = ExplainedFeatures.load(${JSON.stringify(page.folder)})\nfor line in summary(found):\n    print(line)`;

function All({ page, q }: { page: Page; q: string }) {
  const search = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    go(["explanations", page.id], new URLSearchParams({ q: String(new FormData(event.currentTarget).get("q") ?? "") }));
  };
  return (
    <>
      <h1>Explanations <span>of latents of {page.model}</span></h1>
      <p className="lead">{count(page.sentences, "sentence")}{page.failures > 0 && <>, and {page.failures} times none</>}, of {count(page.planned, "latent")}.</p>
      <p className="note">
        {page.explainer ? <>Written by {page.explainer}. </> : "Rules that a program found and follows; no language model. "}{page.judge && <>Judged by {page.judge}. </>}
        {page.usage && <>Its answers took {page.usage.prompt_tokens.toLocaleString("en-US")} tokens of prompts and {page.usage.output_tokens.toLocaleString("en-US")} of answers, in {count(page.usage.answers, "answer")} that are kept{page.usage.unread > 0 && <> ({page.usage.unread} could not be read)</>}. </>}
        Scores are of text that the sentences were not made from.
      </p>
      {page.unscored && <p className="state warned">Scores: {page.unscored}.</p>}
      {page.gold.map((one) => <p key={one.judge} className={`state ${one.ability === "able" ? "" : "failed"}`}>{one.said}</p>)}
      {page.summary.length > 0 && (
        <section>
          <h2>How true they are</h2>
          <DataTable
            rows={page.summary} caption="Means over latents" file={`${page.id}-summary`} keyOf={(row) => `${row.method} ${row.judge} ${row.scorer} ${row.control}`} filter={false}
            note={<p className="note">Means over latents with 95 % intervals. A control is the sentence of another latent; what its score is above chance needs no explanation.</p>}
            columns={[
              { name: "explained by", left: true, value: (row) => row.method }, { name: "judged by", left: true, value: (row) => row.judge }, { name: "scorer", left: true, value: (row) => row.scorer }, { name: "control", left: true, value: (row) => row.control },
              { name: "mean [95 %]", value: (row) => row.mean?.value ?? null, show: (row) => (row.ability !== "able" ? `judge ${row.ability}` : row.mean ? interval(row.mean) : "–") },
              { name: "latents", value: (row) => row.scored }, { name: "unscored", value: (row) => row.unscored },
              { name: "right", value: (row) => row.right }, { name: "wrong", value: (row) => row.wrong }, { name: "unparsed", value: (row) => row.unparsed }, { name: "errors", value: (row) => row.error },
            ]}
          />
          {page.compared.map((one) => <p key={one.method} className="note">{one.method}: no better than a word list at {one.no_better} of {count(one.compared, "latent")}.</p>)}
        </section>
      )}
      <section>
        <h2>By latent</h2>
        <form className="fields" onSubmit={search}>
          <label>Words of the sentence, or a latent <input type="search" name="q" key={q} defaultValue={q} maxLength={200} /></label>
          <button type="submit">Search</button>
          {q && <a href={hashOf(["explanations", page.id])}>all</a>}
        </form>
        {page.rows.length === 0 ? <Empty>{q ? <>No explanation has all of these words: {q}.</> : "Nothing was said yet; the same command goes on."}</Empty> : <Rows page={page} />}
        {page.total > page.rows.length && <p className="note">{page.total - page.rows.length} of {page.total} are not listed: search for words.</p>}
      </section>
      <Tools name={page.id} data={page} python={python(page)} />
    </>
  );
}

/** The score of an explanation itself, not of a control, and of a judge that can judge. */
const own = (row: Row, scorer: string) => row.scores.find((one) => one.scorer === scorer && !one.control && one.ability === "able");

function Rows({ page }: { page: Page }) {
  const scorers = [...new Set(page.rows.flatMap((row) => row.scores.filter((one) => !one.control && one.ability === "able").map((one) => one.scorer)))].slice(0, 3);
  return (
    <DataTable
      rows={page.rows} caption="Explanations by latent" file={`${page.id}-latents`} keyOf={(row, index) => `${row.feature} ${row.method} ${index}`} filter={false}
      columns={[
        { name: "latent", left: true, value: (row) => row.feature, show: (row) => <a href={hashOf(["explanations", page.id, row.feature])}><code>{row.feature}</code></a> },
        { name: "by", left: true, value: (row) => row.method },
        { name: "says", left: true, value: (row) => row.text || row.failure, show: (row) => (row.text ? <bdi>{row.text}</bdi> : <i className="muted">nothing: {row.failure}</i>) },
        { name: "active on", value: (row) => row.active },
        ...scorers.map((scorer) => ({ name: scorer.replaceAll("_", " "), value: (row: Row) => own(row, scorer)?.value ?? null, show: (row: Row) => written(own(row, scorer)) })),
        { name: "failures", value: (row) => row.scores.reduce((sum, one) => sum + one.unparsed + one.error, 0) },
      ]}
    />
  );
}

const written = (one?: Score) => (!one ? "–" : one.value === null ? <span title={one.reason}>unscored</span> : `${number(one.value)} [${number(one.low)}, ${number(one.high)}]`);

function OneLatent({ page, feature }: { page: Page; feature: string }) {
  if (page.rows.length === 0) return <Empty>Nothing is said of {feature} in this study. <a href={hashOf(["explanations", page.id])}>All explanations</a></Empty>;
  return (
    <>
      <h1><code>{feature}</code> <span>in {page.model}</span></h1>
      <p><a href={hashOf(["explanations", page.id])}>All explanations</a>; active on {count(page.rows[0]!.active, "token")} of the corpus.</p>
      {page.rows.map((row, index) => (
        <section key={index} className="panel">
          <header><h2>{row.text ? <bdi>{row.text}</bdi> : <i>nothing: {row.failure}</i>}</h2><span className="muted">{[row.method, row.model, row.kind, row.saved === null ? "" : `saves ${percent(row.saved)} of the text's bits`].filter(Boolean).join(", ")}</span></header>
          {row.scores.length === 0 ? <Empty>Not scored.</Empty> : (
            <DataTable
              rows={row.scores} caption={`Scores of ${row.method}`} file={`${page.id}-${feature.replace("/", "-")}-${row.method}`} keyOf={(_, at) => String(at)} filter={false} marked={(one) => !one.control && one.ability === "able"}
              columns={[
                { name: "judged by", left: true, value: (one) => one.judge, show: (one) => <>{one.judge}{one.ability !== "able" && <small title="on questions whose answers are known"> {one.ability}</small>}</> }, { name: "scorer", left: true, value: (one) => one.scorer }, { name: "control", left: true, value: (one) => one.control },
                { name: "score [95 %]", value: (one) => one.value, show: (one) => written(one) }, { name: "AUROC", value: (one) => one.auroc?.value ?? null, show: (one) => (one.auroc ? interval(one.auroc) : "–") },
                { name: "right", value: (one) => one.right }, { name: "wrong", value: (one) => one.wrong }, { name: "unparsed", value: (one) => one.unparsed }, { name: "errors", value: (one) => one.error },
                { name: "if failures were wrong", value: (one) => one.worst }, { name: "if right", value: (one) => one.best },
              ]}
            />
          )}
        </section>
      ))}
      <Tools name={`${page.id}-${feature.replace("/", "-")}`} data={page} python={`from gossamer import Feature\nfrom gossamer.explain.records import ExplainedFeatures\n\nfound = ExplainedFeatures.load(${JSON.stringify(page.folder)})\nfeature = Feature.parse(${JSON.stringify(feature)})\nfor row in found.explanations:\n    if row.explanation.feature == feature:\n        print(row)\n        for scored in found.scores_of(feature, row.explanation.method):\n            print(scored.judge, scored.control or "itself", scored.scores)`} />
    </>
  );
}
