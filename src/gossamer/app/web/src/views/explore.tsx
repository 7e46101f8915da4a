/** A text of the reader's own, taken apart: what its latents and its next token came from, head by head. */
import type { FormEvent } from "react";
import { get, post } from "../api";
import { Answer, Empty, useAnswer } from "../parts/states";
import { go, hashOf, usePlace } from "../route";
import { Explored } from "./attention";

const LONGEST = 64;

export function ExploreView({ id }: { id: string }) {
  const { query } = usePlace();
  const [text, answer, wrong, feature] = ["text", "answer", "wrong", "feature"].map((name) => query.get(name) ?? "") as [string, string, string, string];
  const position = Number(query.get("position") ?? -1);
  const set = useAnswer(`dicts ${id}`, (signal) => get("/api/v1/dicts/{dictionaries}", { dictionaries: id }, undefined, signal));
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(event.currentTarget)) if (String(value)) asked.set(name, String(value));
    if (!asked.has("feature")) asked.delete("position");
    else if (query.has("from")) asked.set("from", query.get("from")!);
    go(["explore", id], asked);
  };
  return (
    <Answer of={set} waiting="Reading the dictionaries …">
      {(page) => (
        <>
          <Crumbs from={query.get("from")} id={id} feature={feature} />
          <h1>A text taken apart <span>in {page.model}</span></h1>
          <p className="note">With the dictionaries {page.name}, at {page.dictionaries.map((one) => one.site).join(", ")}; attention patterns and norm scales are held at what they are on the text. At most {LONGEST} tokens: longer ones by <code>gossamer explore</code>.</p>
          {page.live !== null ? <Empty>The model cannot be asked: {page.live}.</Empty> : (
            <>
              <form className="ask" key={`form ${query}`} onSubmit={submit}>
                <label htmlFor="text">Text</label>
                <textarea id="text" name="text" rows={2} required maxLength={4000} defaultValue={text} placeholder={page.example ?? undefined} />
                <div className="fields">
                  <label>begin with the logit of <input name="answer" defaultValue={answer} maxLength={200} size={8} placeholder=" are" /></label>
                  <label>over <input name="wrong" defaultValue={wrong} maxLength={200} size={8} placeholder=" is" /></label>
                  <label>or a latent <input name="feature" defaultValue={feature} pattern="[\w.]+/\d+" maxLength={60} size={16} title="SITE/LATENT, as resid_post.2/17" /></label>
                  <label>at token <input name="position" type="number" min={-512} max={511} defaultValue={query.get("position") ?? "-1"} /></label>
                </div>
                <button type="submit" className="primary">Take apart</button>
              </form>
              {text ? <Asked id={id} loading={page.python} text={text} answer={answer || null} wrong={wrong || null} feature={feature || null} position={position} /> : <Empty>Type a text: its active latents can then be followed back through heads and tokens. Spaces count: a word that goes on begins with one.</Empty>}
            </>
          )}
        </>
      )}
    </Answer>
  );
}

/** Where the reader came from, and of which latent this is. */
function Crumbs({ from, id, feature }: { from: string | null; id: string; feature: string }) {
  if (!feature) return null;
  // SITE/LATENT is one part of an address.
  const [view, part, ...rest] = (from ?? "").split("/");
  return (
    <nav className="crumbs" aria-label="Breadcrumbs">
      {view === "trace" && part && <><a href={hashOf(["trace", part])}>trace {part}</a> › </>}
      <a href={hashOf(["latent", view === "latent" && part && rest.length ? part : id, feature])}>{feature}</a> › <span aria-current="page">taken apart</span>
    </nav>
  );
}

interface Question {
  id: string;
  loading: string;
  text: string;
  answer: string | null;
  wrong: string | null;
  feature: string | null;
  position: number;
}

function Asked({ id, loading, ...asked }: Question) {
  const found = useAnswer(`explore ${id} ${JSON.stringify(asked)}`, (signal) => post("/api/v1/dicts/{dictionaries}/attention", { dictionaries: id }, { ...asked, latents: 8 }, signal));
  return <Answer of={found} waiting="Taking the text apart; the first time loads the model …">{(page) => <Explored page={page} name={`${id}-attention`} python={python(loading, asked)} />}</Answer>;
}

function python(loading: string, { text, answer, wrong, feature, position }: Omit<Question, "id" | "loading">): string {
  const begin = feature !== null ? `feature=Feature.parse(${JSON.stringify(feature)}), position=${position}` : answer !== null || wrong !== null ? `answer=${said(answer)}, wrong=${said(wrong)}` : "";
  return `${loading}\nfrom gossamer import Feature\nfrom gossamer.attention import Limits, Question, attribution_data\n\nquestion = Question(${JSON.stringify(text)}${begin && `, ${begin}`})\nprint(attribution_data(model, dictionaries, [question], limits=Limits(latents=8), bos=bos))`;
}

const said = (text: string | null) => (text === null ? "None" : JSON.stringify(text));
