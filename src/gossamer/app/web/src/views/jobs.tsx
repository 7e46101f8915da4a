/** Jobs: what works or waits on this server, what becomes of it when the page is closed, and a latent explained by rules. */
import { type FormEvent, useEffect, useState } from "react";
import { type JobEvent, type Refusal, type Shapes, get, listen, post } from "../api";
import { count, number } from "../format";
import { Empty, Failed, Waiting, refusalOf, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { usePlace } from "../route";

type Job = Shapes["JobShape"];
type Explained = Extract<JobEvent, { event: "explained" }>;
const LOOK = 1500;

export default function JobsView() {
  const { query } = usePlace();
  const [jobs, setJobs] = useState<Job[] | null>(null);
  const [error, setError] = useState<Refusal | null>(null);
  const run = useAnswer("run", (signal) => get("/api/v1/run", {}, undefined, signal))[0];
  const look = () => get("/api/v1/jobs").then((found) => { setJobs(found.jobs); setError(null); }, (failed: unknown) => setError(refusalOf(failed)));
  useEffect(() => {
    void look();
    const timer = setInterval(() => void look(), LOOK);
    return () => clearInterval(timer);
  }, []);
  const stores = run.state === "answered" ? run.value.parts.filter((part) => part.kind === "feature store").map((part) => ({ id: part.id, folder: `${run.value.folder}/${part.path}`.replace(/\/[^/]*$/, "") })) : [];
  return (
    <>
      <h1>Jobs</h1>
      <p className="note">One job works at a time, at most sixteen wait. Steering ends with the tab that asked for it; an explanation goes on, and is kept in the run's folder.</p>
      {error ? <Failed error={error} retry={() => void look()} /> : jobs === null ? <Waiting>Asking …</Waiting> : jobs.length === 0 ? <Empty>No job works, waits or ended lately.</Empty> : (
        <DataTable
          rows={[...jobs].reverse()} caption="Jobs" file="jobs" keyOf={(row) => row.id} filter={false}
          columns={[
            { name: "job", left: true, value: (row) => `${row.kind} ${row.label}` }, { name: "state", left: true, value: (row) => row.state, show: (row) => <span className="tag">{row.state}{row.ahead > 0 && `, ${row.ahead} before it`}</span> },
            { name: "when its page is closed", left: true, value: (row) => row.on_close },
            { name: "stop", left: true, value: () => "", show: (row) => (row.state === "waiting" || row.state === "running") && <button type="button" aria-label={`Cancel ${row.kind} ${row.label}`} onClick={() => void post("/api/v1/jobs/{job}/cancel", { job: row.id }, undefined as never).then(look)}>Cancel</button> },
          ]}
        />
      )}
      <section>
        <h2>Explain a latent by rules</h2>
        {stores.length === 0 ? <Empty>This run has no feature store: <code>gossamer store build</code> makes one.</Empty> : <Explain stores={stores} feature={query.get("feature") ?? ""} begun={() => void look()} />}
      </section>
    </>
  );
}

function Explain({ stores, feature, begun }: { stores: { id: string; folder: string }[]; feature: string; begun: () => void }) {
  const [state, setState] = useState<{ said: string; found: Explained | null; error: Refusal | null; store: string; feature: string } | null>(null);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const asked = { store: String(form.get("store")), feature: String(form.get("feature")).trim() };
    setState({ said: "waiting for its turn", found: null, error: null, ...asked });
    const hear = (heard: JobEvent) => setState((now) => now && (heard.event === "explained" ? { ...now, found: heard, said: "" } : heard.event === "failed" ? { ...now, said: "", error: refusalOf(new Error(heard.message)) } : heard.event === "progress" ? { ...now, said: heard.said } : heard.event === "cancelled" ? { ...now, said: "", error: refusalOf(new Error("It was cancelled.")) } : now));
    post("/api/v1/jobs", {}, { job: { kind: "explain", ...asked } })
      .then((page) => { begun(); return listen(`/api/v1/jobs/${page.job.id}/events`, undefined, hear, new AbortController().signal); })
      .catch((error: unknown) => setState((now) => now && { ...now, said: "", error: refusalOf(error) }));
  };
  return (
    <>
      <form className="fields" onSubmit={submit}>
        <label>Store <select name="store">{stores.map((one) => <option key={one.id}>{one.id}</option>)}</select></label>
        <label>Latent <input name="feature" required pattern="[\w.]+/\d+" title="SITE/LATENT, as resid_post.2/17" placeholder="resid_post.2/17" defaultValue={feature} /></label>
        <button type="submit" className="primary" disabled={Boolean(state?.said)}>Explain</button>
      </form>
      {state?.said && <Waiting>{state.said}</Waiting>}
      {state?.error && <Failed error={state.error} />}
      {state?.found && (
        <section className="panel" aria-label="Explanation" aria-live="polite">
          <header><h3><code>{state.found.feature}</code> {state.found.text ? <bdi>{state.found.text}</bdi> : <i>nothing: {state.found.failure}</i>}</h3></header>
          {state.found.kept && <p className="note">Kept in <code>{state.found.kept}</code>; the view of explanations shows it.</p>}
          <DataTable
            rows={state.found.scores} caption="Scores" file="scores" keyOf={(_, index) => String(index)} filter={false}
            columns={[
              { name: "scorer", left: true, value: (row) => row.scorer }, { name: "control", left: true, value: (row) => row.control },
              { name: "score [95 %]", value: (row) => row.value, show: (row) => (row.value === null ? `unscored: ${row.reason}` : `${number(row.value)} [${number(row.low)}, ${number(row.high)}]`) },
              { name: "right", value: (row) => row.right }, { name: "wrong", value: (row) => row.wrong }, { name: "unparsed", value: (row) => row.unparsed }, { name: "errors", value: (row) => row.error },
            ]}
          />
          <p className="note">{count(state.found.scores.length, "score")} on text that the rule was not found on.</p>
          <Tools name={`explained-${state.feature.replace("/", "-")}`} data={state.found} python={`from gossamer import Feature\nfrom gossamer.explain import ExplanationStudy\nfrom gossamer.store import FeatureStore\n\nwith FeatureStore(${JSON.stringify(stores.find((one) => one.id === state.store)?.folder)}) as store:\n    print(ExplanationStudy(store, [Feature.parse(${JSON.stringify(state.feature)})]).run())`} />
        </section>
      )}
    </>
  );
}
