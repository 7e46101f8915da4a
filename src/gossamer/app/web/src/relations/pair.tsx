/** Two latents at the same tokens: their table, what follows from it, where both fire, and what ablating did. */
import { type Shapes, get } from "../api";
import { interval, number } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { hashOf, usePlace } from "../route";

const MEANING: Record<string, string> = { jaccard: "shared tokens of all tokens of either", sufficiency: "P(downstream | upstream)", necessity: "P(upstream | downstream)", mutual_information: "of the activities, nats", cosine: "of the activations", pearson: "of the activations" };

export function PairView({ id, folder, latents }: { id: string; folder: string; latents?: string | null }) {
  const { query } = usePlace();
  const [a, b] = [query.get("a") ?? "", query.get("b") ?? ""];
  const found = useAnswer(`pair ${id} ${a} ${b}`, (signal) => get("/api/v1/relations/{part}/pair", { part: id }, { a, b }, signal));
  return (
    <>
      <p><a href={hashOf(["relations", id])}>← The graph</a></p>
      <Answer of={found} waiting="Counting …">{(pair) => <Shown id={id} folder={folder} latents={latents} pair={pair} />}</Answer>
    </>
  );
}

function Shown({ id, folder, latents, pair }: { id: string; folder: string; latents?: string | null; pair: Shapes["PairPage"] }) {
  const [up, down] = [pair.upstream, pair.downstream];
  const [[both, upOnly], [downOnly, neither]] = pair.table as [[number, number], [number, number]];
  const cell = (value: number) => <td>{value.toLocaleString("en-US")}</td>;
  const rows = [
    { name: "phi", value: pair.phi, what: "correlation of the two activities" }, { name: "lift", value: pair.lift, what: "both, over what independence would give; 1 by chance" },
    ...pair.measures.map((one) => ({ name: one.name.replaceAll("_", " "), value: one.value, what: MEANING[one.name] ?? "" })),
  ];
  const latent = (name: string) => name.slice(name.lastIndexOf("/") + 1);
  const site = (name: string) => name.slice(0, name.lastIndexOf("/"));
  return (
    <>
      <div className="columns">
        <section>
          <h2>At {pair.tokens.toLocaleString("en-US")} tokens</h2>
          <table className="two">
            <caption className="hidden">Tokens by which of the two latents is active</caption>
            <thead><tr><td /><th scope="col">{down.name} active</th><th scope="col">not</th><th scope="col">all</th></tr></thead>
            <tbody>
              <tr><th scope="row" className="left">{up.name} active</th>{cell(both)}{cell(upOnly)}{cell(both + upOnly)}</tr>
              <tr><th scope="row" className="left">not</th>{cell(downOnly)}{cell(neither)}{cell(downOnly + neither)}</tr>
              <tr><th scope="row" className="left">all</th>{cell(both + downOnly)}{cell(upOnly + neither)}{cell(pair.tokens)}</tr>
            </tbody>
          </table>
          <DataTable rows={rows} caption="Measures of the pair" file={`${id}-pair`} filter={false} keyOf={(row) => row.name}
            columns={[
              { name: "measure", left: true, value: (row) => row.name }, { name: "value", value: (row) => row.value.value, show: (row) => (row.value.low === null ? number(row.value.value) : interval(row.value)) },
              { name: "low", value: (row) => row.value.low }, { name: "high", value: (row) => row.value.high }, { name: "what it is", left: true, value: (row) => row.what },
            ]}
            note={<p className="note">Intervals are of 95 % and take tokens as independent, which neighbours in a text are not: true ones are wider.</p>} />
        </section>
        <section>
          <h2>Does one cause the other?</h2>
          {pair.causal ? (
            <>
              <p>Without {up.name}, {down.name} loses <b>{number(pair.causal.effect)}</b> of its largest activation{pair.causal.tokens !== null && ` (mean over ${pair.causal.tokens.toLocaleString("en-US")} tokens)`}: more than {number(100 * (pair.causal.rank ?? 0))} % of the {pair.causal.pairs} ablated pairs of these dictionaries.</p>
              <p className="note">{pair.causal_said}</p>
            </>
          ) : <Empty>{pair.causal_said}</Empty>}
          <h2>Where both fire</h2>
          {pair.joint.length ? (
            <ol className="plain joint">{pair.joint.map((one, at) => <li key={at}><span className="text"><bdi>{one.before}</bdi><mark>{one.token}</mark><bdi>{one.after}</bdi></span> <small>upstream {number(one.upstream)}, downstream {number(one.downstream)}</small></li>)}</ol>
          ) : <Empty>At no token of the prompts of this file. Make it with prompts: <code>gossamer relations FOLDER --model MODEL --prompt TEXT</code>.</Empty>}
        </section>
        {[up, down].map((one, at) => <Latent key={one.name} of={latents} one={one} side={at ? "Downstream" : "Upstream"} />)}
      </div>
      <Tools name={`${id}-pair`} data={pair} python={`from gossamer.relations import SitePair, load_folder, pair_table\n\nrelation = load_folder(${JSON.stringify(folder)})[SitePair(${JSON.stringify(site(up.name))}, ${JSON.stringify(site(down.name))})]\nprint(pair_table(relation, ${latent(up.name)}, ${latent(down.name)}))`} />
    </>
  );
}

function Latent({ of, one, side }: { of?: string | null; one: Shapes["LatentOfPair"]; side: string }) {
  return (
    <section>
      <h2>{side}: <code>{of ? <a href={hashOf(["latent", of, one.name])}>{one.name}</a> : one.name}</code></h2>
      {one.explanation && <p><bdi>{one.explanation}</bdi></p>}
      {one.words.length ? <p>{one.words.map((word, at) => <bdi key={at} className="chip">{word}</bdi>)}</p> : <p className="note">No words are known of it.</p>}
      {one.examples.length > 0 && <ol className="plain joint">{one.examples.map((example, at) => <li key={at}><span className="text"><bdi>{example.before}</bdi><mark>{example.token}</mark><bdi>{example.after}</bdi></span> <small>{number(example.activation)}</small></li>)}</ol>}
    </section>
  );
}
