/** Search over the run: by name, label, token and logit word; and the latents that say most of a text. */
import { type FormEvent, useState } from "react";
import { type Shapes, get, post } from "../api";
import { count, number } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go as goTo, hashOf, usePlace } from "../route";
import { around } from "../surroundings";

type Hit = Shapes["Hit"];
const KINDS: [Hit["kind"], string][] = [
  ["id", "Latents of that name"], ["explanation", "Labels and explanations"], ["token", "Latents most active on that token"],
  ["word", "Latents that raise that word"], ["node", "Nodes of circuits"], ["file", "Files of results"],
];

export default function SearchView() {
  const { query } = usePlace();
  const [q, text, set] = [query.get("q") ?? "", query.get("text") ?? "", query.get("set") ?? ""];
  const go = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(event.currentTarget)) if (String(value).trim()) asked.set(name, String(value).trim());
    goTo(["search"], asked);
  };
  return (
    <>
      <h1>Search</h1>
      <form className="ask" key={`q ${q}`} onSubmit={go} role="search">
        <label htmlFor="q">A latent's name or number, a word of its label, a token, or a word that it raises</label>
        <input id="q" name="q" type="search" required maxLength={200} defaultValue={q} />
        <button type="submit" className="primary">Search</button>
      </form>
      {q ? <Hits key={q} q={q} /> : !text && <Empty>Names, labels, tokens and words are searched in everything that the run holds.</Empty>}
      <BySpecificity text={text} set={set} go={go} />
    </>
  );
}

function Hits({ q }: { q: string }) {
  const found = useAnswer(`search ${q}`, (signal) => get("/api/v1/search", {}, { q }, signal));
  return (
    <Answer of={found} waiting="Searching …">
      {(page) => (
        <>
          {page.hits.length === 0 && <Empty>Nothing in this run is called <bdi>{page.q}</bdi> or says it.</Empty>}
          {KINDS.map(([kind, title]) => <Group key={kind} title={title} hits={page.hits.filter((one) => one.kind === kind)} more={page.counts.some((one) => one.kind === kind && one.more)} />)}
          {page.notes.map((one) => <p key={one} className="note">{one}</p>)}
          {page.notes.length > 0 && around().served && <ByWeights q={page.q} />}
          <Tools name="search" data={page} python={`from gossamer.app import RunFolder, Workbench\nfrom gossamer.app.live import LiveModels\nfrom gossamer.app.search import KINDS, search\n\nbench = Workbench(RunFolder(FOLDER), LiveModels())\nhits, counts, notes = search(bench, ${JSON.stringify(page.q)}, KINDS, 50)\nprint(*hits, sep="\\n")`.replace("FOLDER", JSON.stringify(page.folder))} />
        </>
      )}
    </Answer>
  );
}

/** Without a store: the words that latents raise, read off the weights when asked for. */
function ByWeights({ q }: { q: string }) {
  const [asked, setAsked] = useState(false);
  return asked ? <Raising q={q} /> : <p><button type="button" onClick={() => setAsked(true)}>Read off the weights which latents raise it</button></p>;
}

function Raising({ q }: { q: string }) {
  const found = useAnswer(`raising ${q}`, (signal) => get("/api/v1/search", {}, { q, kind: "word", weights: true }, signal));
  return (
    <Answer of={found} waiting="Reading the words of all latents; the first time loads the model …">
      {(page) => (
        <>
          <Group title="Latents that raise that word, by their weights" hits={page.hits} more={page.counts.some((one) => one.more)} />
          {page.hits.length === 0 && <Empty>None was read: {page.notes.join(" ")}</Empty>}
        </>
      )}
    </Answer>
  );
}

function Group({ title, hits, more }: { title: string; hits: Hit[]; more: boolean }) {
  if (!hits.length) return null;
  const measure = hits[0]!.measure;
  return (
    <section>
      <h2>{title}</h2>
      <DataTable
        rows={hits} caption={title} file={`search-${hits[0]!.kind}`} filter={hits.length > 15} keyOf={(_, index) => String(index)}
        columns={[
          { name: "found", left: true, value: (row) => row.feature || row.source, show: (row) => (row.feature ? <a href={hashOf(["latent", row.dictionaries, row.feature])}><code>{row.feature}</code></a> : <code>{row.source}</code>) },
          { name: "says", left: true, value: (row) => row.text, show: (row) => <bdi>{row.text}</bdi> },
          ...(measure ? [{ name: measure, value: (row: Hit) => row.score ?? null, show: (row: Hit) => number(row.score ?? null) }] : []),
          { name: "in", left: true, value: (row) => row.source },
        ]}
        note={more ? <p className="note">The first {count(hits.length, "hit")}; there are more.</p> : undefined}
      />
    </section>
  );
}

function BySpecificity({ text, set, go }: { text: string; set: string; go: (event: FormEvent<HTMLFormElement>) => void }) {
  const sets = useAnswer("dicts", (signal) => get("/api/v1/dicts", {}, undefined, signal));
  return (
    <section>
      <h2>Latents that say most of a text</h2>
      <Answer of={sets} waiting="Reading the dictionaries …">
        {({ sets: known }) => known.length === 0 ? <Empty>This run has no dictionaries.</Empty> : (
          <>
            <form className="ask" key={text} onSubmit={go}>
              <label htmlFor="text">Text</label>
              <textarea id="text" name="text" rows={3} required maxLength={20000} defaultValue={text} />
              <button type="submit" className="primary">Find</button>
              {known.length > 1 ? <label className="inline">in <select name="set" defaultValue={set || known[0]!.id}>{known.map((one) => <option key={one.id} value={one.id}>{one.name}, {one.model}</option>)}</select></label> : <input type="hidden" name="set" value={known[0]!.id} />}
            </form>
            {text ? <Specific key={`${set} ${text}`} text={text} set={set || known[0]!.id} /> : <Empty>Listed by activation × log(1 / density): active here, and seldom elsewhere.</Empty>}
          </>
        )}
      </Answer>
    </section>
  );
}

function Specific({ text, set }: { text: string; set: string }) {
  const found = useAnswer(`specific ${set} ${text}`, (signal) => post("/api/v1/search/text", {}, { text, dictionaries: set, count: 50 }, signal));
  return (
    <Answer of={found} waiting="Running the model; the first time loads it …">
      {(page) => (
        <>
          <DataTable
            rows={page.latents} caption="Latents most specific to the text" file="specific-latents" filter={false} keyOf={(row) => row.feature}
            columns={[
              { name: "latent", left: true, value: (row) => row.feature, show: (row) => <a href={hashOf(["latent", set, row.feature])}><code>{row.feature}</code></a> },
              { name: "says", left: true, value: (row) => row.label ?? "", show: (row) => <bdi>{row.label}</bdi> },
              { name: "specificity", value: (row) => row.specificity }, { name: "activation", value: (row) => row.activation }, { name: "density", value: (row) => row.density },
              { name: "at token", left: true, value: (row) => row.token, show: (row) => <><bdi className="chip">{row.token}</bdi> {row.position}</> },
            ]}
            note={<p className="note">Specificity: largest activation on the text × ln(1 / density), density of {page.text}. <a href={hashOf(["prompt", set], new URLSearchParams({ text }))}>Token by token</a></p>}
          />
          <Tools name="specific-latents" data={page} python={page.python} />
        </>
      )}
    </Answer>
  );
}
