/** One latent: its card, the nodes of circuits that it is, and a text of the reader's own. */
import { type FormEvent, useState } from "react";
import { type Shapes, get, post } from "../api";
import { count, interval, number } from "../format";
import { Examples, LatentCard } from "../circuit/card";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go as goTo, hashOf } from "../route";

type Page = Shapes["LatentPage"];

export function LatentView({ id, feature }: { id: string; feature: string }) {
  const found = useAnswer(`latent ${id} ${feature}`, (signal) => get("/api/v1/dicts/{dictionaries}/latent", { dictionaries: id }, { feature }, signal));
  return <Answer of={found} waiting="Reading the prompts with the model; the first time loads it …">{(page) => <Shown key={page.feature} id={id} page={page} />}</Answer>;
}

function Shown({ id, page }: { id: string; page: Page }) {
  const [text, setText] = useState("");
  const go = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    goTo(["latent", id, String(new FormData(event.currentTarget).get("feature") ?? "").trim()]);
  };
  const [site, latent] = [page.feature.slice(0, page.feature.lastIndexOf("/")), Number(page.feature.slice(page.feature.lastIndexOf("/") + 1))];
  return (
    <>
      <h1><bdi>{page.card.label || page.feature}</bdi> <span>{page.feature} in {page.card.model}</span></h1>
      <form className="fields" onSubmit={go}>
        {latent > 0 && <a href={hashOf(["latent", id, `${site}/${latent - 1}`])}>← {latent - 1}</a>}
        <a href={hashOf(["latent", id, `${site}/${latent + 1}`])}>{latent + 1} →</a>
        <label>Another <input name="feature" defaultValue={page.feature} pattern="[\w.]+/\d+" title="SITE/LATENT, as resid_post.2/17" required /></label>
        <button type="submit">Go</button>
        <a href={hashOf(["dictionary", id], new URLSearchParams({ site }))}>All latents of {site}</a>
        <a href={hashOf(["steer", id], new URLSearchParams({ feature: page.feature }))}>Steer by it</a>
        {page.store && <a href={hashOf(["jobs"], new URLSearchParams({ feature: page.feature }))}>Explain it</a>}
      </form>
      {page.nodes.length > 0 ? <p>In {page.nodes.map((name, index) => <span key={name}>{index > 0 && ", "}<a href={hashOf(["circuit", name.split(" ")[0]!])}><code>{name.split(" ").slice(1).join(" ")}</code> of {name.split(" ")[0]}</a></span>)}.</p> : <p className="note">In no circuit of this run.</p>}
      <div className="columns">
        <section><h2>What it is</h2><LatentCard card={page.card} near={(feature) => hashOf(["latent", id, feature])} /><Weights id={id} feature={page.feature} /></section>
        <section>
          <h2>On a text of yours</h2>
          <form className="ask" onSubmit={(event) => { event.preventDefault(); setText(String(new FormData(event.currentTarget).get("text") ?? "")); }}>
            <label htmlFor="own">Text</label>
            <textarea id="own" name="text" rows={3} required maxLength={20000} />
            <button type="submit" className="primary">Run</button>
          </form>
          {text ? <Own id={id} feature={page.feature} text={text} /> : <Empty>Every token shows how active the latent is there.</Empty>}
          <Explained page={page} />
          <Tokens page={page} />
          <Relations id={id} page={page} />
        </section>
      </div>
      <Tools name={page.feature.replace("/", "-")} data={page} python={page.python} />
    </>
  );
}

function Explained({ page }: { page: Page }) {
  if (!page.said.length && !page.labels.length) return null;
  return (
    <section>
      <h2>What is said of it</h2>
      {page.labels.map((one, index) => <p key={index} className="explained"><bdi>{one.text}</bdi> <small>{[one.method, one.score === null ? "" : `${one.scorer} ${number(one.score)}`, `in ${one.source}`].filter(Boolean).join(", ")}</small></p>)}
      <ul className="plain said-of">
        {page.said.map((one, index) => (
          <li key={index}>
            {one.failure ? <p className="state">No explanation by {one.method}: {one.failure}</p> : <p className="explained"><bdi>{one.text}</bdi></p>}
            <p className="note">{[one.method, one.model, `in ${one.source}`].filter(Boolean).join(", ")}</p>
            {one.scores.length > 0 && (
              <DataTable
                rows={one.scores} caption={`Scores of ${one.text}`} file={`${page.feature.replace("/", "-")}-scores-${index}`} filter={false} keyOf={(_, row) => String(row)}
                columns={[
                  { name: "scorer", left: true, value: (row) => row.scorer }, { name: "judge", left: true, value: (row) => row.judge + (row.ability === "able" ? "" : `, ${row.ability} on what is known`) }, { name: "of", left: true, value: (row) => row.control || "this sentence" },
                  { name: "score", value: (row) => row.value, show: (row) => (row.value === null ? <span title={row.reason}>unscored: {row.reason}</span> : row.low === null ? number(row.value) : interval({ value: row.value, low: row.low ?? null, high: row.high ?? null })) },
                  { name: "right", value: (row) => row.right }, { name: "wrong", value: (row) => row.wrong }, { name: "unparsed", value: (row) => row.unparsed }, { name: "errors", value: (row) => row.error },
                ]}
              />
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Tokens({ page }: { page: Page }) {
  if (!page.tokens.length) return null;
  return (
    <section>
      <h2>Tokens it is active on</h2>
      <DataTable
        rows={page.tokens} caption="Tokens on which its activation adds up to most" file={`${page.feature.replace("/", "-")}-tokens`} filter={false} keyOf={(row) => String(row.token)}
        columns={[
          { name: "token", left: true, value: (row) => row.text, show: (row) => <bdi className="chip">{row.text}</bdi> },
          { name: "mean activation", value: (row) => row.mean }, { name: "largest", value: (row) => row.maximum }, { name: "active", value: (row) => row.active }, { name: "occurrences", value: (row) => row.occurrences },
        ]}
        note={<p className="note">The 20 tokens on which its activation adds up to most; means over all occurrences that count.</p>}
      />
    </section>
  );
}

function Relations({ id, page }: { id: string; page: Page }) {
  if (!page.related.length) return null;
  return (
    <section>
      <h2>Related latents</h2>
      <DataTable
        rows={page.related} caption="Latents that go together with it" file={`${page.feature.replace("/", "-")}-relations`} filter={false} keyOf={(_, index) => String(index)}
        columns={[
          { name: "latent", left: true, value: (row) => row.feature, show: (row) => <a href={hashOf(["latent", id, row.feature])}><code>{row.feature}</code></a> },
          { name: "is", left: true, value: (row) => (row.upstream ? "before it" : "after it") }, { name: "measure", left: true, value: (row) => row.measure },
          { name: "value", value: (row) => row.value, show: (row) => (row.low == null ? number(row.value) : interval({ value: row.value, low: row.low ?? null, high: row.high ?? null })) },
          { name: "tokens with both", value: (row) => row.both }, { name: "from", left: true, value: (row) => row.source },
        ]}
        note={page.related_hidden > 0 ? <p className="note">The strongest; {count(page.related_hidden, "weaker one")} not listed.</p> : undefined}
      />
    </section>
  );
}

function Weights({ id, feature }: { id: string; feature: string }) {
  const found = useAnswer(`weights ${id} ${feature}`, (signal) => get("/api/v1/dicts/{dictionaries}/latent/weights", { dictionaries: id }, { feature }, signal));
  return (
    <section>
      <h2>Its weights</h2>
      <Answer of={found} waiting="Reading the weights; the first time loads the model …">
        {(one) => (
          <>
            <dl className="pairs">
              <dt>cosine of encoder and decoder</dt><dd>{number(one.cosine)}</dd>
              <dt>length of encoder, decoder</dt><dd>{number(one.encoder_norm)}, {number(one.decoder_norm)}</dd>
              {one.bias !== null && <><dt>bias</dt><dd>{number(one.bias)}</dd></>}
              {one.threshold !== null && <><dt>threshold</dt><dd>{number(one.threshold)}</dd></>}
            </dl>
            {one.heads.length > 0 && (
              <DataTable
                rows={one.heads.map((share, head) => ({ head, share }))} caption="Share of each head in what the latent writes" file={`${feature.replace("/", "-")}-heads`} filter={false} keyOf={(row) => String(row.head)}
                columns={[{ name: "head", value: (row) => row.head }, { name: "share of what it writes", value: (row) => row.share }]}
              />
            )}
          </>
        )}
      </Answer>
    </section>
  );
}

/** Of attention latents: which tokens and heads its value at one token came from. */
function Sources({ id, feature, text }: { id: string; feature: string; text: string }) {
  const [position, setPosition] = useState<number | null>(null);
  const found = useAnswer(`sources ${id} ${feature} ${text} ${position}`, (signal) => post("/api/v1/dicts/{dictionaries}/latent/sources", { dictionaries: id }, { feature, text, position }, signal));
  return (
    <section>
      <h2>Where it came from</h2>
      <Answer of={found} waiting="Taking the attention apart …">
        {(page) => (
          <>
            <p className="note">At token {page.position}, <bdi className="chip">{page.tokens[page.position]}</bdi>: {number(page.pre_activation)} before its activation function, of which {number(page.bias)} comes from no token. <a href={hashOf(["explore", id], new URLSearchParams({ text, feature, position: String(page.position), from: `latent/${id}/${feature}` }))}>Follow it further back</a>: what those tokens' latents came from in turn, and why a head looked there. Or choose another token:</p>
            <p className="strip" role="group" aria-label="Tokens by what came from them">
              {page.tokens.map((token, index) => <button key={index} type="button" aria-pressed={index === page.position} className={`token s${Math.ceil((page.shade[index] ?? 0) * 5)}`} aria-label={`token ${index}, ${token}, ${number(page.by_source[index] ?? null, true)}`} title={number(page.by_source[index] ?? null, true)} onClick={() => setPosition(index)}><bdi>{token}</bdi></button>)}
            </p>
            <DataTable
              rows={page.by_source.map((value, index) => ({ index, value }))} caption="By source token" file={`${feature.replace("/", "-")}-sources`} filter={false} keyOf={(row) => String(row.index)}
              columns={[{ name: "token", value: (row) => row.index }, { name: "text", left: true, value: (row) => page.tokens[row.index] ?? "", show: (row) => <bdi className="chip">{page.tokens[row.index]}</bdi> }, { name: "came from it", value: (row) => row.value }]}
            />
            <DataTable
              rows={page.by_head.map((value, head) => ({ head, value }))} caption="By head" file={`${feature.replace("/", "-")}-source-heads`} filter={false} keyOf={(row) => String(row.head)}
              columns={[{ name: `head of layer ${page.layer}`, value: (row) => row.head }, { name: "through it", value: (row) => row.value }]}
            />
            <Tools name={`${feature.replace("/", "-")}-sources`} data={page} python={page.python} />
          </>
        )}
      </Answer>
    </section>
  );
}

function Own({ id, feature, text }: { id: string; feature: string; text: string }) {
  const found = useAnswer(`own ${feature} ${text}`, (signal) => post("/api/v1/dicts/{dictionaries}/latent/test", { dictionaries: id }, { feature, text }, signal));
  return (
    <Answer of={found} waiting="Running the model …">
      {({ example }) => (example.activation ? <><Examples title="Where it fires" examples={[example]} /><p><a href={hashOf(["prompt", id], new URLSearchParams({ text }))}>All latents on this text</a></p>{/^(z|attn_out)\./.test(feature) && <Sources id={id} feature={feature} text={text} />}</> : <Empty>It is active at no token of this text.</Empty>)}
    </Answer>
  );
}
