/** A set of dictionaries: what is known of each, how dense its latents are, and the latents. */
import { useState } from "react";
import { type Shapes, get } from "../api";
import { count, number, percent } from "../format";
import { Answer, Empty, useAnswer } from "../parts/states";
import { ReportTable } from "../parts/study";
import { DataTable } from "../parts/table";
import { Copy, Tools } from "../parts/tools";
import { hashOf, replaceQuery, usePlace } from "../route";

type Page = Shapes["DictionaryPage"];
type Row = Shapes["LatentRow"];
type Sort = Shapes["LatentList"]["sort"];

export default function DictionaryView({ id }: { id: string }) {
  const found = useAnswer(`dicts ${id}`, (signal) => get("/api/v1/dicts/{dictionaries}", { dictionaries: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the dictionaries …">{(page) => <Shown page={page} />}</Answer>;
}

function Shown({ page }: { page: Page }) {
  const { path, query } = usePlace();
  const [site, setSite] = useState(page.dictionaries.find((one) => one.site === query.get("site"))?.site ?? page.dictionaries[0]?.site ?? "");
  const choose = (next: string) => { setSite(next); replaceQuery(path, new URLSearchParams({ site: next })); };
  const rows = page.measured.find((one) => one.site === site)?.measures ?? [];
  return (
    <>
      <h1>{page.name} <span>{count(page.dictionaries.length, "dictionary", "dictionaries")} of {page.model ?? "no model"}</span></h1>
      {page.circuit && <p className="note">They lie outside the run; the circuit <a href={hashOf(["circuit", page.circuit])}>{page.circuit}</a> names them.</p>}
      {page.live !== null && <p className="state">The model cannot be asked: {page.live}.</p>}
      <p><a href={hashOf(["prompt", page.id])}>A text of yours in these dictionaries</a></p>
      <section>
        <h2>Dictionaries</h2>
        <DataTable
          rows={page.dictionaries} caption="Dictionaries of the set" file={`${page.id}-dictionaries`} keyOf={(row) => row.site} filter={false} marked={(row) => row.site === site}
          columns={[
            { name: "site", left: true, value: (row) => row.site, show: (row) => <button type="button" className="plainbutton" aria-pressed={row.site === site} onClick={() => choose(row.site)}>{row.site}</button> },
            { name: "kind", left: true, value: (row) => row.architecture ?? "not on this machine" },
            { name: "latents", value: (row) => row.n_latents ?? null }, { name: "width", value: (row) => row.d_in ?? null }, { name: "k", value: (row) => row.k ?? null },
            { name: "L0, claimed", value: (row) => row.l0 ?? null }, { name: "explained variance, claimed", value: (row) => row.explained_variance ?? null },
            { name: "statistics of", left: true, value: (row) => row.store ?? "", show: (row) => (row.store ? <code>{row.store}</code> : <span className="muted">no store</span>) },
          ]}
        />
      </section>
      <section>
        <h2>What was measured of <code>{site}</code></h2>
        {rows.length === 0 ? <Empty>Neither the dictionaries' files nor this run say how good they are: <code>gossamer evaluate</code> measures it.</Empty> : (
          <DataTable
            key={site} rows={rows} caption={`Measures of ${site}`} file={`${page.id}-${site}-measures`} filter={false} keyOf={(_, index) => String(index)}
            columns={[
              { name: "measure", left: true, value: (row) => row.name }, { name: "value", value: (row) => row.value },
              { name: "on", left: true, value: (row) => row.on }, { name: "formula", left: true, value: (row) => row.formula },
            ]}
          />
        )}
      </section>
      <Tools name={`${page.id}-dictionaries`} data={page} python={`${page.python}\nprint(dictionaries)\nfor site, one in dictionaries.items():\n    print(site, one.reported)`} />
      {page.controls.length > 0 && (
        <section>
          <h2>Beside controls</h2>
          {page.controls.map((table) => (
            <ReportTable key={table.title} table={table} file={`${page.id}-controls`} note={`${table.title}. ${table.note}`} />
          ))}
        </section>
      )}
      <Densities key={`densities ${site}`} site={site} build={page.build ?? null} densities={page.measured.find((one) => one.site === site)?.densities ?? null} />
      <Latents key={`latents ${site}`} page={page} site={site} choose={choose} />
    </>
  );
}

function Densities({ site, build, densities }: { site: string; build: string | null; densities: Shapes["Densities"] | null }) {
  if (densities === null) {
    return build === null ? null : (
      <section>
        <h2>How dense the latents of <code>{site}</code> are</h2>
        <div className="state empty"><p>Known of a feature store alone, which this run has none of: how often latents are active, which are dead, what they fire on. With a text of yours in place of TEXT this builds one:</p><p className="command"><code>{build}</code> <Copy text={build} label="Copy command" /></p></div>
      </section>
    );
  }
  const most = Math.max(1, ...densities.counts);
  const said = densities.counts.map((one, index) => `${percent(densities.edges[index])} to ${percent(densities.edges[index + 1])} of the tokens: ${count(one, "latent")}`);
  return (
    <section>
      <h2>How dense the latents of <code>{site}</code> are</h2>
      <figure className="histogram wide">
        <svg viewBox={`0 0 ${densities.counts.length * 10} 40`} preserveAspectRatio="none" role="img" aria-label={said.join("; ")}>
          {densities.counts.map((one, index) => <rect key={index} x={index * 10 + 0.5} width={9} y={40 - (39 * one) / most} height={(39 * one) / most}><title>{said[index]}</title></rect>)}
        </svg>
        <figcaption><span>{percent(densities.edges[0])}</span><span>share of {densities.tokens.toLocaleString("en-US")} tokens on which a latent is active (log scale)</span><span>{percent(densities.edges.at(-1))}</span></figcaption>
      </figure>
      <p className="note">The tallest bar is {count(most, "latent")}. {count(densities.dead, "latent")} {densities.dead === 1 ? "is" : "are"} active on no token and in no bar.</p>
      <details>
        <summary>The histogram as a table</summary>
        <DataTable
          rows={densities.counts.map((latents, index) => ({ index, latents }))} caption="Latents by density" file={`${site}-densities`} filter={false} keyOf={(row) => String(row.index)}
          columns={[{ name: "from", value: (row) => densities.edges[row.index] ?? null }, { name: "to", value: (row) => densities.edges[row.index + 1] ?? null }, { name: "latents", value: (row) => row.latents }]}
        />
      </details>
    </section>
  );
}

function Latents({ page, site, choose }: { page: Page; site: string; choose: (site: string) => void }) {
  const stored = page.dictionaries.find((one) => one.site === site)?.store !== null;
  const [asked, setAsked] = useState({ sort: (stored ? "density" : "name") as Sort, q: "", min: 0, cursor: 0 });
  const change = (next: Partial<typeof asked>) => setAsked((now) => ({ ...now, cursor: 0, ...next }));
  const found = useAnswer(`latents ${page.id} ${site} ${JSON.stringify(asked)}`, (signal) =>
    get("/api/v1/dicts/{dictionaries}/latents", { dictionaries: page.id }, { site, sort: asked.sort, q: asked.q, min_density: asked.min, cursor: asked.cursor, limit: 50 }, signal));
  return (
    <section>
      <h2>Latents</h2>
      <form className="fields" onSubmit={(event) => { event.preventDefault(); change({ q: String(new FormData(event.currentTarget).get("q") ?? "").trim() }); }}>
        <label>Site <select value={site} onChange={(event) => choose(event.target.value)}>{page.dictionaries.map((one) => <option key={one.site}>{one.site}</option>)}</select></label>
        <label>Sorted by <select value={asked.sort} onChange={(event) => change({ sort: event.target.value as Sort })}>
          <option value="density" disabled={!stored}>density</option><option value="max" disabled={!stored}>largest activation</option><option value="name">number</option>
        </select></label>
        {stored && <label>Density at least <select value={asked.min} onChange={(event) => change({ min: Number(event.target.value) })}>{[0, 1e-4, 1e-3, 1e-2, 0.1].map((one) => <option key={one} value={one}>{percent(one)}</option>)}</select></label>}
        <label>{stored ? "Number, word or label" : "Number"} <input name="q" type="search" maxLength={100} /></label>
        <button type="submit">Find</button>
      </form>
      <Answer of={found} waiting="Reading the latents …">
        {(list) => list.total === 0 ? <Empty>No latent is so.</Empty> : (
          <>
            <DataTable
              rows={list.rows} caption={`Latents of ${site}`} file={`${page.id}-${site}-latents`} filter={false} keyOf={(row) => row.feature} columns={columnsOf(page.id, stored, list.rows.some((row) => row.label))}
              note={<p className="note">{stored ? `Densities and activations of ${list.text}.` : `How often they are active is not known, ${list.text.replace(/^no text: /, "because ")}. Words are read off the weights.`}</p>}
            />
            <p className="toolbar">
              <output>{(list.cursor + 1).toLocaleString("en-US")} to {(list.cursor + list.rows.length).toLocaleString("en-US")} of {count(list.total, "latent")}</output>
              <button type="button" disabled={list.cursor === 0} onClick={() => setAsked((now) => ({ ...now, cursor: Math.max(0, list.cursor - 50) }))}>Before</button>
              <button type="button" disabled={list.next === null} onClick={() => setAsked((now) => ({ ...now, cursor: list.next ?? 0 }))}>After</button>
            </p>
            <Tools name={`${page.id}-${site}-latents`} data={list} python={list.python} />
          </>
        )}
      </Answer>
    </section>
  );
}

/** Columns of a list of latents; those of a store, and labels, only where there are some. */
function columnsOf(id: string, stored: boolean, labelled: boolean) {
  const measured = [
    { name: "density", value: (row: Row) => row.density ?? null, show: (row: Row) => percent(row.density) },
    { name: "largest", value: (row: Row) => row.maximum ?? null },
  ];
  const labels = [
    { name: "label", left: true, value: (row: Row) => row.label ?? "" },
    { name: "score", value: (row: Row) => row.score ?? null, show: (row: Row) => (row.score === null || row.score === undefined ? "–" : <span title={row.scorer ?? ""}>{number(row.score)}</span>) },
  ];
  return [
    { name: "latent", left: true, value: (row: Row) => row.feature, show: (row: Row) => <a href={hashOf(["latent", id, row.feature])}><code>{row.feature}</code></a> },
    { name: "raises", left: true, value: (row: Row) => row.top ?? "", show: (row: Row) => (row.top ? <bdi className="chip">{row.top}</bdi> : "–") },
    { name: "lowers", left: true, value: (row: Row) => row.bottom ?? "", show: (row: Row) => (row.bottom ? <bdi className="chip">{row.bottom}</bdi> : "–") },
    ...(stored ? measured : []), ...(labelled ? labels : []),
    { name: "nodes of circuits", value: (row: Row) => row.nodes },
  ];
}
