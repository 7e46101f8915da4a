/** Two circuits, or two dictionaries, side by side. */
import { type Shapes, get } from "../api";
import { measured } from "../circuit/measured";
import { count, number, percent } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go, hashOf, usePlace } from "../route";

export default function CompareView({ what }: { what: string }) {
  const run = useAnswer("run", (signal) => get("/api/v1/run", {}, undefined, signal));
  const tabs = [["circuits", "Circuits"], ["dictionaries", "Dictionaries"]] as const;
  return (
    <>
      <h1>Compare</h1>
      <nav className="tabs" aria-label="What to compare">
        {tabs.map(([path, name]) => <a key={path} href={hashOf(["compare", path])} aria-current={what === path ? "page" : undefined}>{name}</a>)}
      </nav>
      {what === "dictionaries" ? <Dictionaries /> : <Answer of={run} waiting="Reading the run folder …">{(found) => <Circuits ids={found.parts.filter((part) => part.kind === "circuit" && part.state === "whole").map((part) => part.id)} />}</Answer>}
    </>
  );
}

/** Two choices that stand in the address. */
function useChoices(names: string[], defaults: string[]): [string[], (place: number, value: string) => void] {
  const { path, query } = usePlace();
  const chosen = names.map((name, place) => query.get(name) ?? defaults[place] ?? "");
  return [chosen, (place, value) => go(path, new URLSearchParams(names.map((name, index) => [name, index === place ? value : chosen[index] ?? ""])))];
}

function Circuits({ ids }: { ids: string[] }) {
  const [[a, b], choose] = useChoices(["a", "b"], [ids[0] ?? "", ids[1] ?? ""]);
  if (ids.length < 2) return <Empty>Two circuits are needed; this run has {count(ids.length, "circuit")}. <code>gossamer view</code> of a folder above shows several runs at once.</Empty>;
  return (
    <>
      <p className="fields">
        {[a, b].map((one, place) => <label key={place}>{place ? "with" : "Compare"} <select value={one} onChange={(event) => choose(place, event.target.value)}>{ids.map((id) => <option key={id} value={id}>{id.replaceAll("~", " / ")}</option>)}</select></label>)}
      </p>
      <CircuitPair key={`${a} ${b}`} a={a!} b={b!} />
    </>
  );
}

function CircuitPair({ a, b }: { a: string; b: string }) {
  const found = useAnswer(`compare ${a} ${b}`, (signal) => get("/api/v1/compare/circuits", {}, { a, b }, signal));
  return (
    <Answer of={found} waiting="Reading the circuits …">
      {(page) => (
        <>
          {page.warnings.map((one) => <p key={one} className="state warned">{one}</p>)}
          <p className="lead">{count(page.shared, "node")} shared: Jaccard index {number(page.jaccard)}{page.by_chance !== null && <> ({number(page.by_chance)} expected of random nodes)</>}, {percent(page.contained)} of the smaller; of latents, whatever their role, {number(page.jaccard_latents)}.</p>
          <DataTable
            rows={[page.a, page.b]} caption="The two circuits" file="compared-circuits" filter={false} keyOf={(row, index) => `${row.id} ${index}`}
            columns={[
              { name: "circuit", left: true, value: (row) => row.id, show: (row) => <a href={hashOf(["circuit", row.id])}>{row.id}</a> }, { name: "task", left: true, value: (row) => row.task }, { name: "model", left: true, value: (row) => row.model },
              { name: "nodes", value: (row) => row.nodes }, { name: "latents", value: (row) => row.latents },
              ...measured<Shapes["ComparedCircuit"]>((row) => row),
            ]}
            footnote={page.footnote}
          />
          <h2>Nodes</h2>
          <DataTable
            rows={page.nodes} caption="Nodes of either circuit" file="compared-nodes" keyOf={(row) => row.node} marked={(row) => row.in_a && row.in_b}
            columns={[
              { name: "node", left: true, value: (row) => row.node, show: (row) => <a href={hashOf(["latent", row.in_a ? a : b, row.feature])}><code>{row.node}</code></a> },
              { name: "says", left: true, value: (row) => row.label, show: (row) => <bdi>{row.label}</bdi> },
              { name: "in", left: true, value: (row) => (row.in_a && row.in_b ? "both" : row.in_a ? "the first" : "the second") },
              { name: "effect, first", value: (row) => row.effect_a }, { name: "effect, second", value: (row) => row.effect_b },
            ]}
            note={<p className="note">Effect: faithfulness lost when the node alone is taken from its circuit.{page.hidden > 0 && ` ${count(page.hidden, "weaker node")} not listed.`}</p>}
          />
          <Tools name="compared-circuits" data={page} python={page.python} />
        </>
      )}
    </Answer>
  );
}

function Dictionaries() {
  const sets = useAnswer("dicts", (signal) => get("/api/v1/dicts", {}, undefined, signal));
  return <Answer of={sets} waiting="Reading the dictionaries …">{({ sets: known }) => <Chosen sets={known} />}</Answer>;
}

function Chosen({ sets }: { sets: Shapes["SetFacts"][] }) {
  const all = sets.flatMap((set) => set.dictionaries.map((one) => ({ value: `${set.id} ${one.site}`, name: `${one.site} of ${set.name}` })));
  const [[a, b, order], choose] = useChoices(["a", "b", "order"], [all[0]?.value ?? "", all[1]?.value ?? "", "best"]);
  if (all.length < 2) return <Empty>Two dictionaries are needed; this run has {count(all.length, "dictionary", "dictionaries")}.</Empty>;
  return (
    <>
      <p className="fields">
        {[a, b].map((one, place) => <label key={place}>{place ? "with those of" : "Latents of"} <select value={one} onChange={(event) => choose(place, event.target.value)}>{all.map((option) => <option key={option.value} value={option.value}>{option.name}</option>)}</select></label>)}
        <label>listed from the <select value={order} onChange={(event) => choose(2, event.target.value)}><option value="best">best match</option><option value="worst">worst match</option></select></label>
      </p>
      <Pair key={`${a} ${b} ${order}`} a={a!} b={b!} order={order === "worst" ? "worst" : "best"} />
    </>
  );
}

function Pair({ a, b, order }: { a: string; b: string; order: "best" | "worst" }) {
  const [[first, one], [second, other]] = [a.split(" "), b.split(" ")] as [string[], string[]];
  const found = useAnswer(`matches ${a} ${b} ${order}`, (signal) => get("/api/v1/compare/dictionaries", {}, { a: first!, b: second!, site_a: one!, site_b: other!, order }, signal));
  return (
    <Answer of={found} waiting="Matching the latents …">
      {(page) => (
        <>
          <p className="lead">{percent(page.shared)} of the {count(page.a.n_latents, "latent")} of <code>{page.a.site}</code> have their own counterpart among the {page.b.n_latents.toLocaleString("en-US")} of <code>{page.b.site}</code>: each the nearest of the other, both cosines at least {number(page.same)}. Largest decoder cosine: {number(page.mean)} on average, {number(page.mean_by_chance)} with the second dictionary turned at random, where {percent(page.by_chance)} reach {number(page.same)}.</p>
          <Cosines histogram={page.histogram} />
          <DataTable
            rows={page.rows} caption="Latents with their matches" file="matched-latents" filter={false} keyOf={(row) => row.a}
            columns={[
              { name: "latent", left: true, value: (row) => row.a, show: (row) => <a href={hashOf(["latent", first!, row.a])}><code>{row.a}</code></a> }, { name: "nearest", left: true, value: (row) => row.b, show: (row) => <a href={hashOf(["latent", second!, row.b])}><code>{row.b}</code></a> },
              { name: "cosine of decoders", value: (row) => row.decoder }, { name: "cosine of encoders", value: (row) => row.encoder }, { name: "nearest to each other", left: true, value: (row) => (row.mutual ? "yes" : "no") },
            ]}
            note={page.hidden > 0 ? <p className="note">{count(page.hidden, "other latent")} not listed.</p> : undefined}
          />
          <Tools name="matched-latents" data={page} python={page.python} />
        </>
      )}
    </Answer>
  );
}

function Cosines({ histogram }: { histogram: Shapes["CosineHistogram"] }) {
  const most = Math.max(1, ...histogram.counts, ...histogram.control);
  const said = histogram.counts.map((one, index) => `${number(histogram.edges[index])} to ${number(histogram.edges[index + 1])}: ${one}, by chance ${histogram.control[index]}`);
  const outline = histogram.control.map((one, index) => `${index * 10},${40 - (39 * one) / most} ${(index + 1) * 10},${40 - (39 * one) / most}`).join(" ");
  return (
    <section>
      <h2>Largest cosine of each latent</h2>
      <figure className="histogram wide">
        <svg viewBox={`0 0 ${histogram.counts.length * 10} 40`} preserveAspectRatio="none" role="img" aria-label={said.join("; ")}>
          {histogram.counts.map((one, index) => <rect key={index} x={index * 10 + 0.5} width={9} y={40 - (39 * one) / most} height={(39 * one) / most}><title>{said[index]}</title></rect>)}
          <polyline className="control" points={outline} vectorEffect="non-scaling-stroke" />
        </svg>
        <figcaption><span>0</span><span>cosine of decoder rows; bars: these dictionaries, line: the second turned at random</span><span>1</span></figcaption>
      </figure>
      <details>
        <summary>The histogram as a table</summary>
        <DataTable
          rows={histogram.counts.map((latents, index) => ({ index, latents }))} caption="Latents by largest cosine" file="cosines" filter={false} keyOf={(row) => String(row.index)}
          columns={[{ name: "from", value: (row) => histogram.edges[row.index] ?? null }, { name: "to", value: (row) => histogram.edges[row.index + 1] ?? null }, { name: "latents", value: (row) => row.latents }, { name: "by chance", value: (row) => histogram.control[row.index] ?? null }]}
        />
      </details>
    </section>
  );
}
