/** A text of the reader's own: per token the latents by activation or by attribution to a token that may come next. */
import { type FormEvent, useEffect, useState } from "react";
import { type Refusal, type Shapes, get, post } from "../api";
import { count, number, percent } from "../format";
import { Answer, Empty, Failed, refusalOf, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { go as goTo, hashOf, usePlace } from "../route";

type Page = Shapes["PromptPage"];
type Latent = Shapes["LatentAt"];
type Order = "activation" | "attribution";

interface Look {
  /** The chosen token; null: the last. */
  place: number | null;
  order: Order;
  /** The latent that tokens are coloured by. */
  shown: string | null;
}

export function PromptView({ id }: { id: string }) {
  const { query } = usePlace();
  const text = query.get("text") ?? "";
  const at = whole(query.get("at"));
  const target = whole(query.get("target"));
  const go = (next: { text?: string; at?: number | null; target?: number | null }) => {
    const asked = new URLSearchParams();
    const all = { text, at, target, ...next };
    for (const [name, value] of Object.entries(all)) if (value !== null && value !== "") asked.set(name, String(value));
    goTo(["prompt", id], asked);
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    go({ text: String(new FormData(event.currentTarget).get("text") ?? ""), at: null, target: null });
  };
  const set = useAnswer(`dicts ${id}`, (signal) => get("/api/v1/dicts/{dictionaries}", { dictionaries: id }, undefined, signal));
  return (
    <Answer of={set} waiting="Reading the dictionaries …">
      {(page) => (
        <>
          <h1>A text <span>in {page.model}</span></h1>
          <p className="note">Read with the dictionaries {page.name}, at {page.dictionaries.map((one) => one.site).join(", ")}.</p>
          {page.live !== null ? <Empty>The model cannot be asked: {page.live}.</Empty> : (
            <>
              <form className="ask" key={`form ${text}`} onSubmit={submit}>
                <label htmlFor="text">Text</label>
                <textarea id="text" name="text" rows={3} required maxLength={20000} defaultValue={text} placeholder={page.example ?? undefined} onKeyDown={(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit(); }} />
                <button type="submit" className="primary">Run</button> <span className="note">or Ctrl Enter</span>
              </form>
              {text ? <Asked key={`asked ${text}`} id={id} loading={page.python} text={text} at={at} target={target} go={go} /> : <Empty>Type a text: every token then shows its latents, and every token that the model may say next can be attributed to them.</Empty>}
            </>
          )}
        </>
      )}
    </Answer>
  );
}

function whole(text: string | null): number | null {
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function Asked({ id, loading, text, at, target, go }: { id: string; loading: string; text: string; at: number | null; target: number | null; go: (next: { at?: number | null; target?: number | null }) => void }) {
  const asked = { text, at: at ?? -1, target, count: 12 };
  // What the reader looks at stays while another target is asked for.
  const look = useState<Look>({ place: null, order: "activation", shown: null });
  const found = useAnswer(`prompt ${id} ${JSON.stringify(asked)}`, (signal) => post("/api/v1/dicts/{dictionaries}/prompt", { dictionaries: id }, asked, signal));
  return (
    <Answer of={found} waiting="Running the model; the first time loads it …">
      {(page) => (
        <>
          <Found id={id} page={page} asked={asked} go={go} look={look} />
          <Tools name={`${id}-text`} data={page} python={python(loading, text, at, target)} />
        </>
      )}
    </Answer>
  );
}

function python(loading: string, text: string, at: number | null, target: number | null): string {
  return `${loading}\nfrom gossamer.features.prompt_latents import prompt_latents\n\nfound = prompt_latents(model, dictionaries, ${JSON.stringify(text)}, bos=bos, at=${at ?? -1}, target=${target ?? "None"})\nprint(found)\nfor site, one in found.sites.items():\n    print(site, one.attributions.abs().topk(3, dim=1).indices)`;
}

function Found({ id, page, asked, go, look: [look, setLook] }: { id: string; page: Page; asked: Shapes["PromptRequest"]; go: (next: { at?: number | null; target?: number | null }) => void; look: [Look, React.Dispatch<React.SetStateAction<Look>>] }) {
  const { order, shown } = look;
  const place = look.place ?? page.tokens.length - 1;
  const setPlace = (one: number) => setLook((now) => ({ ...now, place: one }));
  const setOrder = (one: Order) => setLook((now) => ({ ...now, order: one }));
  const setShown = (one: string | null) => setLook((now) => ({ ...now, shown: one }));
  const shade = useAnswer(`shade ${id} ${asked.text} ${shown}`, (signal) => (shown === null ? Promise.resolve(null) : post("/api/v1/dicts/{dictionaries}/latent/test", { dictionaries: id }, { feature: shown, text: asked.text }, signal)))[0];
  const example = shade.state === "answered" && shade.value ? shade.value.example : null;
  const rows = page.sites.flatMap((site) => site.tokens.flatMap((token, index) => token.latents.map((one) => ({ ...one, site: site.site, index }))));
  const chooseTarget = (token: number) => { setOrder("attribution"); go({ at: page.at, target: token }); };
  return (
    <>
      <section>
        <h2>Tokens</h2>
        <p className="strip" role="group" aria-label="Tokens of the text">
          {page.tokens.map((token, index) => {
            const level = example ? Math.ceil((example.shade[index] ?? 0) * 5) : 0;
            const said = example ? `, activation ${number(example.activations[index] ?? null)}` : "";
            return <button key={index} type="button" className={`token s${level}${page.counted[index] ? "" : " passed"}`} aria-pressed={index === place} aria-label={`token ${index}, ${token}${said}`} title={page.counted[index] ? said.slice(2) : "the dictionaries did not learn on this token: it passes through"} onClick={() => setPlace(index)}><bdi>{token}</bdi></button>;
          })}
        </p>
        {shown && <p className="note">Coloured by <code>{shown}</code>{example && `, largest ${number(example.activation)}`}. <button type="button" onClick={() => setShown(null)}>No colour</button></p>}
      </section>
      <section>
        <h2>What may come after token {page.at}, <bdi className="chip">{page.tokens[page.at]}</bdi></h2>
        <ul className="predictions">
          {page.predictions.map((one) => (
            <li key={one.token}>
              <button type="button" aria-pressed={one.token === page.target.token} onClick={() => chooseTarget(one.token)}><bdi>{one.word}</bdi> <small>{percent(one.probability)}</small></button>
            </li>
          ))}
        </ul>
        {!page.predictions.some((one) => one.token === page.target.token) && <p className="note">Attributed to <bdi className="chip">{page.target.word}</bdi>, {percent(page.target.probability)}.</p>}
        {place !== page.at && <p><button type="button" onClick={() => go({ at: place, target: null })}>What may come after token {place} instead</button></p>}
      </section>
      <section>
        <h2>Latents at token {place}, <bdi className="chip">{page.tokens[place]}</bdi></h2>
        <fieldset className="fields">
          <legend className="hidden">Order of the latents</legend>
          <label><input type="radio" name="order" checked={order === "activation"} onChange={() => setOrder("activation")} /> by activation</label>
          <label><input type="radio" name="order" checked={order === "attribution"} onChange={() => setOrder("attribution")} /> by attribution to <bdi className="chip">{page.target.word}</bdi></label>
        </fieldset>
        {page.counted[place] ? (
          <div className="sites">
            {page.sites.map((site) => <AtSite key={site.site} id={id} site={site.site} token={site.tokens[place]!} place={place} order={order} asked={{ ...asked, at: page.at, target: page.target.token }} show={setShown} shown={shown} />)}
          </div>
        ) : <Empty>The dictionaries did not learn on this token (BOS, or an attention sink); what they would say means nothing.</Empty>}
        {place > page.at && <p className="note">This token comes after the one that is read: nothing in it can have a part in what follows that one.</p>}
      </section>
      <details>
        <summary>Every token as a table</summary>
        <DataTable
          rows={rows} caption="Latents at every token" file={`${id}-text`} keyOf={(row) => `${row.feature} ${row.index}`}
          columns={[
            { name: "token", value: (row) => row.index }, { name: "text", left: true, value: (row) => page.tokens[row.index] ?? "" }, { name: "site", left: true, value: (row) => row.site },
            { name: "latent", left: true, value: (row) => row.feature }, { name: "words", left: true, value: (row) => row.words.join(" ") }, { name: "activation", value: (row) => row.activation }, { name: "attribution, nats", value: (row) => row.attribution },
          ]}
          note={<p className="note">The strongest of each token and site by either measure.</p>}
        />
      </details>
    </>
  );
}

function AtSite({ id, site, token, place, order, asked, show, shown }: { id: string; site: string; token: Shapes["TokenAt"]; place: number; order: Order; asked: Shapes["PromptRequest"]; show: (feature: string) => void; shown: string | null }) {
  const [removed, setRemoved] = useState<Record<string, number | null> | Refusal | "asking" | null>(null);
  const key = `${site} ${place} ${JSON.stringify(asked)}`;
  useEffect(() => setRemoved(null), [key]);
  const size = (one: Latent) => (order === "activation" ? (one.activation ?? 0) : Math.abs(one.attribution ?? 0));
  const latents = [...token.latents].sort((a, b) => size(b) - size(a)).slice(0, 12);
  const most = Math.max(...latents.map(size), 1e-12);
  const measure = () => {
    setRemoved("asking");
    const numbers = latents.map((one) => Number(one.feature.split("/").at(-1)));
    post("/api/v1/dicts/{dictionaries}/prompt/removals", { dictionaries: id }, { ...asked, site, position: place, latents: numbers }).then(
      (found) => setRemoved(Object.fromEntries(found.latents.map((latent, index) => [`${site}/${latent}`, found.changes[index] ?? null]))),
      (error: unknown) => setRemoved(refusalOf(error)),
    );
  };
  const exact = removed !== null && removed !== "asking" && !(removed instanceof Error) ? removed : null;
  return (
    <section className="panel" aria-label={site}>
      <header><h3><code>{site}</code></h3><span className="muted">{count(token.active, "latent")} active, error {percent(token.error_share)} of the value</span></header>
      {latents.length === 0 ? <Empty>No latent is active here.</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label={`Latents of ${site}`}>
          <table className="scores">
            <thead><tr><th className="left" scope="col">latent</th><th className="left" scope="col">raises</th><th scope="col">activation</th><th scope="col">attribution</th>{exact && <th scope="col" title="change of the log-probability when it goes to zero">without it</th>}<th scope="col"><span className="hidden">size</span></th></tr></thead>
            <tbody>
              {latents.map((one) => (
                <tr key={one.feature} className={one.feature === shown ? "marked" : ""}>
                  <th scope="row" className="left"><a href={hashOf(["latent", id, one.feature])}>{one.feature.split("/").at(-1)}</a></th>
                  <td className="left"><button type="button" className="plainbutton" title="colour the tokens by this latent" onClick={() => show(one.feature)}><bdi>{one.words.join(" ") || one.feature}</bdi></button></td>
                  <td>{number(one.activation)}</td><td>{number(one.attribution, true)}</td>{exact && <td>{number(exact[one.feature], true)}</td>}
                  <td className={`meter${order === "attribution" && (one.attribution ?? 0) < 0 ? " against" : ""}`}><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect className="bar" width={(100 * size(one)) / most} height="10" /></svg></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {latents.length > 0 && !exact && <button type="button" disabled={removed === "asking"} onClick={measure}>{removed === "asking" ? "Measuring …" : "Take each away and measure"}</button>}
      {removed instanceof Error && <Failed error={removed} />}
      <p className="note">Attribution: to first order what the latent adds to the log-probability, nats.{exact && " Without it: the exact change when the latent alone goes to zero here."}</p>
    </section>
  );
}
