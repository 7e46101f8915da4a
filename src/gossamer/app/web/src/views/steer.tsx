/** Steer live: the default text beside the steered one, token by token with the same draws, and the price under them. */
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type JobEvent, type Refusal, type Shapes, get, listen } from "../api";
import { count, number, percent } from "../format";
import { Answer, Empty, Failed, Waiting, refusalOf, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { usePlace } from "../route";

type Asked = Shapes["SteerJob"];
type Spec = Required<Shapes["SteerSpec"]>;
type Price = Extract<JobEvent, { event: "price" }>;
type Token = Extract<JobEvent, { event: "token" }>;

interface Run {
  asked: Asked;
  state: "waiting" | "running" | "done" | "failed" | "cancelled";
  said: string;
  tokens: Token[];
  price: Price | null;
  error: Refusal | null;
}

const MODES: Record<Spec["mode"], string> = { add: "add its direction", clamp: "clamp its activation to", scale: "multiply its activation by", project: "take its direction out" };
const UNITS: Record<Spec["unit"], string> = { residual_norm: "× mean norm of the stream", max_activation: "× its largest activation", raw: "plain" };

export default function SteerView({ id }: { id: string }) {
  const set = useAnswer(`dicts ${id}`, (signal) => get("/api/v1/dicts/{dictionaries}", { dictionaries: id }, undefined, signal));
  return (
    <Answer of={set} waiting="Reading the dictionaries …">
      {(page) => (page.live === null ? <Steer id={id} page={page} /> : <><h1>Steer</h1><Empty>The model cannot be asked: {page.live}.</Empty></>)}
    </Answer>
  );
}

function Steer({ id, page }: { id: string; page: Shapes["DictionaryPage"] }) {
  const { query } = usePlace();
  const feature = query.get("feature") ?? "";
  const [specs, setSpecs] = useState<Spec[]>([{ feature, mode: "add", strength: 0.4, unit: "residual_norm" }]);
  const [run, setRun] = useState<Run | null>(null);
  const stop = useRef<AbortController | null>(null);
  // Who leaves the view closes the stream, and the server stops.
  useEffect(() => () => stop.current?.abort(), []);

  const change = (place: number, next: Partial<Spec>) => setSpecs(specs.map((one, at) => (at === place ? { ...one, ...next, ...(next.mode === "scale" ? { unit: "raw" as const } : {}) } : one)));
  const cancel = () => {
    stop.current?.abort();
    setRun((now) => now && { ...now, state: "cancelled", said: "" });
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const text = (name: string) => String(form.get(name) ?? "");
    const asked: Asked = {
      kind: "steer", dictionaries: id, prompt: text("prompt"), specs, positions: text("positions") as Asked["positions"], seed: Number(text("seed")), n_tokens: Number(text("n_tokens")), temperature: Number(text("temperature")),
      words: text("words").split(/[\s,]+/).filter(Boolean), neutral: text("neutral"),
    };
    stop.current?.abort();
    const controller = new AbortController();
    stop.current = controller;
    setRun({ asked, state: "waiting", said: "waiting for its turn; the first time loads the model", tokens: [], price: null, error: null });
    const hear = (heard: JobEvent) => {
      if (controller.signal.aborted) return;
      setRun((now) => now && next(now, heard));
    };
    listen("/api/v1/steer", asked, hear, controller.signal).catch((error: unknown) => {
      if (!controller.signal.aborted) setRun((now) => now && { ...now, state: "failed", error: refusalOf(error) });
    });
  };
  const busy = run?.state === "waiting" || run?.state === "running";
  return (
    <>
      <h1>Steer <span>{page.model}</span></h1>
      <p className="note">By latents of {page.name}, at {page.dictionaries.map((one) => one.site).join(", ")}. Default and steered text side by side, with the price under them.</p>
      <form className="steer" onSubmit={submit}>
        <label htmlFor="steer-prompt">Prompt</label>
        <textarea id="steer-prompt" name="prompt" rows={3} maxLength={20000} defaultValue={query.get("prompt") ?? ""} placeholder={page.example ?? undefined} onKeyDown={(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit(); }} />
        <fieldset>
          <legend>Latents</legend>
          {specs.map((one, place) => (
            <div className="fields" key={place}>
              <label>Latent <input value={one.feature} required pattern="[\w.]+/\d+" title="SITE/LATENT, as resid_post.2/17" placeholder={`${page.dictionaries[0]?.site ?? "resid_post.2"}/17`} onChange={(event) => change(place, { feature: event.target.value.trim() })} /></label>
              <label><span className="hidden">What is done</span><select value={one.mode} onChange={(event) => change(place, { mode: event.target.value as Spec["mode"] })}>{Object.entries(MODES).map(([mode, name]) => <option key={mode} value={mode}>{name}</option>)}</select></label>
              {one.mode !== "project" && <label><span className="hidden">Strength</span><input type="number" step="any" value={one.strength} required onChange={(event) => change(place, { strength: event.target.valueAsNumber })} /></label>}
              {one.mode !== "project" && one.mode !== "scale" && <label><span className="hidden">Unit</span><select value={one.unit} onChange={(event) => change(place, { unit: event.target.value as Spec["unit"] })}>{Object.entries(UNITS).map(([unit, name]) => <option key={unit} value={unit}>{name}</option>)}</select></label>}
              {specs.length > 1 && <button type="button" aria-label={`Take latent ${one.feature || place + 1} out`} onClick={() => setSpecs(specs.filter((_, at) => at !== place))}>×</button>}
            </div>
          ))}
          {specs.length < 16 && <button type="button" onClick={() => setSpecs([...specs, { feature: "", mode: "add", strength: 0.4, unit: "residual_norm" }])}>Another latent</button>}
        </fieldset>
        <div className="fields">
          <label>Tokens <input name="n_tokens" type="number" min={1} max={512} defaultValue={40} required /></label>
          <label>Temperature <input name="temperature" type="number" min={0} max={5} step="any" defaultValue={0.7} required /></label>
          <label>Seed <input name="seed" type="number" min={0} max={2147483647} defaultValue={0} required /></label>
          <label>Act at <select name="positions"><option value="all">every token</option><option value="new">new tokens only</option></select></label>
        </div>
        <details>
          <summary>Words of the concept, and a neutral text of yours</summary>
          <div className="fields"><label className="wide">Words, to be counted in both texts <input name="words" maxLength={400} placeholder="sad, cried, tears" /></label></div>
          <label htmlFor="steer-neutral">Neutral text for the price, a row a line; without one, plain sentences</label>
          <textarea id="steer-neutral" name="neutral" rows={3} maxLength={20000} />
        </details>
        <p className="toolbar">
          <button type="submit" className="primary" disabled={busy}>Steer</button> <span className="note">or Ctrl Enter</span>
          {busy && <button type="button" onClick={cancel}>Cancel</button>}
        </p>
      </form>
      {run ? <Shown id={id} run={run} loading={page.python} /> : <Empty>Both texts are written with the same draws; under them stands what steering costs on a neutral text. Closing the tab cancels.</Empty>}
    </>
  );
}

function next(now: Run, heard: JobEvent): Run {
  switch (heard.event) {
    case "started": return { ...now, state: "running", said: "writing; the first time loads the model" };
    case "progress": return { ...now, said: heard.said };
    case "token": return { ...now, said: "", tokens: [...now.tokens, heard] };
    case "price": return { ...now, price: heard };
    case "done": case "cancelled": return { ...now, state: heard.event, said: "" };
    case "failed": return { ...now, state: "failed", said: "", error: refusalOf(new Error(heard.message)) };
    default: return now;
  }
}

function Shown({ id, run, loading }: { id: string; run: Run; loading: string }) {
  const status = run.state === "done" ? "Done." : run.state === "cancelled" ? `Cancelled after ${count(run.tokens.length, "token")}; nothing was kept.` : "";
  return (
    <>
      <div className="columns beside">
        <Text title="default" tokens={run.tokens.map((one) => one.default)} prompt={run.asked.prompt} other={run.tokens.map((one) => one.steered)} />
        <Text title="steered" tokens={run.tokens.map((one) => one.steered)} prompt={run.asked.prompt} other={run.tokens.map((one) => one.default)} />
      </div>
      <p className="note">Underlined: where the texts differ. Point at a token for its probability in its own model.</p>
      <p role="status" className="said">{status}</p>
      {run.said && <Waiting>{run.said}</Waiting>}
      {run.error && <Failed error={run.error} />}
      {run.price && <Cost price={run.price} />}
      {run.tokens.length > 0 && (
        <details>
          <summary>Every token as a table</summary>
          <DataTable
            rows={run.tokens.map((one, place) => ({ ...one, place }))} caption="Tokens of both texts" file={`${id}-steered`} keyOf={(row) => String(row.place)} filter={false}
            columns={[
              { name: "place", value: (row) => row.place }, { name: "default", left: true, value: (row) => row.default?.word ?? "" }, { name: "probability", value: (row) => row.default?.probability ?? null },
              { name: "steered", left: true, value: (row) => row.steered?.word ?? "" }, { name: "its probability", value: (row) => row.steered?.probability ?? null },
            ]}
          />
        </details>
      )}
      {run.state === "done" && <Tools name={`${id}-steered`} data={run} python={python(run, loading)} />}
    </>
  );
}

function Text({ title, tokens, prompt, other }: { title: string; tokens: (Shapes["ChosenToken"] | null)[]; prompt: string; other: (Shapes["ChosenToken"] | null)[] }) {
  return (
    <section className="panel" aria-label={title}>
      <header><h2>{title}</h2></header>
      <p className="text"><span className="muted">{prompt}</span>{tokens.map((one, place) => one && <bdi key={place} className={one.word === other[place]?.word ? "" : "differs"} title={`probability ${percent(one.probability)}`}>{one.word}</bdi>)}</p>
    </section>
  );
}

function Cost({ price }: { price: Price }) {
  return (
    <section className="panel" aria-label="Price">
      <header><h2>What it costs</h2><span className="muted">on {count(price.tokens, "token")} of {price.text}</span></header>
      <dl className="pairs">
        <dt>cross-entropy</dt><dd>{number(price.cross_entropy, true)} nats a token</dd>
        <dt>KL from the model</dt><dd>{number(price.kl)} nats a token</dd>
        <dt>likeliest next token changed</dt><dd>{percent(price.changed)}</dd>
        {price.words.length > 0 && <><dt>words of the concept</dt><dd>{price.default_hits} in the default text, {price.steered_hits} in the steered one</dd></>}
      </dl>
      <DataTable
        rows={price.pushes} caption="Each latent alone" file="price" keyOf={(_, index) => String(index)} filter={false}
        columns={[
          { name: "latent", left: true, value: (row) => row.feature ?? "" }, { name: "done", left: true, value: (row) => row.kind.replaceAll("_", " ") }, { name: "raw strength", value: (row) => row.raw }, { name: "norm ratio", value: (row) => row.relative_norm },
          { name: "activation before", value: (row) => row.before }, { name: "after, encoded again", value: (row) => row.after },
        ]}
        note={<p className="note">Norm ratio: mean change over the mean length of what stands there. One prompt shows what steering can do; <code>gossamer steer --words</code> says how often, with controls.</p>}
      />
    </section>
  );
}

function python(run: Run, loading: string): string {
  const { asked, price } = run;
  const made = asked.specs.map((one, place) => {
    const [site, latent] = [one.feature.slice(0, one.feature.lastIndexOf("/")), one.feature.slice(one.feature.lastIndexOf("/") + 1)];
    const [which, raw] = [`dictionaries[Site.parse(${JSON.stringify(site)})]`, price?.pushes[place]?.raw ?? one.strength];
    return one.mode === "project" ? `project_out(${JSON.stringify(site)}, ${which}.W_dec[${latent}].detach())` : `${{ add: "feature_add", clamp: "clamp", scale: "scale" }[one.mode ?? "add"]}(${which}, ${latent}, ${raw})`;
  });
  return `${loading}\nfrom gossamer.model import Site\nfrom gossamer.steering import NEW_TOKENS, SamplingPlan, behind_first, clamp, feature_add, project_out, scale\nfrom gossamer.steering.side_by_side import side_by_side\n\nwhere = ${asked.positions === "new" ? "NEW_TOKENS" : "behind_first(model)"}\npushes = [one.where(where) for one in (${made.join(", ")},)]\nplan = SamplingPlan(1, ${asked.n_tokens}, ${asked.temperature}, seed=${asked.seed})\nfor place in side_by_side(model, pushes, ${JSON.stringify(asked.prompt)}, plan):\n    print(place.default and place.default.word, place.steered and place.steered.word)`;
}
