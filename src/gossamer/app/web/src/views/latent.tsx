/** One latent: its card, the nodes of circuits that it is, and a text of the reader's own. */
import { type FormEvent, useState } from "react";
import { type Shapes, get, post } from "../api";
import { Examples, LatentCard } from "../circuit/card";
import { Answer, Empty, useAnswer } from "../parts/states";
import { Tools } from "../parts/tools";
import { hashOf } from "../route";

export function LatentView({ id, feature }: { id: string; feature: string }) {
  const found = useAnswer(`latent ${id} ${feature}`, (signal) => get("/api/v1/dicts/{dictionaries}/latent", { dictionaries: id }, { feature }, signal));
  return <Answer of={found} waiting="Reading the prompts with the model; the first time loads it …">{(page) => <Shown key={page.feature} id={id} page={page} />}</Answer>;
}

function Shown({ id, page }: { id: string; page: Shapes["LatentPage"] }) {
  const [text, setText] = useState("");
  const go = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    location.hash = hashOf(["latent", id, String(new FormData(event.currentTarget).get("feature") ?? "").trim()]);
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
      </form>
      {page.nodes.length > 0 ? <p>In {page.nodes.map((name, index) => <span key={name}>{index > 0 && ", "}<a href={hashOf(["circuit", name.split(" ")[0]!])}><code>{name.split(" ").slice(1).join(" ")}</code> of {name.split(" ")[0]}</a></span>)}.</p> : <p className="note">In no circuit of this run.</p>}
      <div className="columns">
        <section><h2>What it is</h2><LatentCard card={page.card} /></section>
        <section>
          <h2>On a text of yours</h2>
          <form className="ask" onSubmit={(event) => { event.preventDefault(); setText(String(new FormData(event.currentTarget).get("text") ?? "")); }}>
            <label htmlFor="own">Text</label>
            <textarea id="own" name="text" rows={3} required maxLength={20000} />
            <button type="submit" className="primary">Run</button>
          </form>
          {text ? <Own id={id} feature={page.feature} text={text} /> : <Empty>Every token shows how active the latent is there.</Empty>}
        </section>
      </div>
      <Tools name={page.feature.replace("/", "-")} data={page} python={page.python} />
    </>
  );
}

function Own({ id, feature, text }: { id: string; feature: string; text: string }) {
  const found = useAnswer(`own ${feature} ${text}`, (signal) => post("/api/v1/dicts/{dictionaries}/latent/test", { dictionaries: id }, { feature, text }, signal));
  return (
    <Answer of={found} waiting="Running the model …">
      {({ example }) => (example.activation ? <><Examples title="Where it fires" examples={[example]} /><p><a href={hashOf(["prompt", id], new URLSearchParams({ text }))}>All latents on this text</a></p></> : <Empty>It is active at no token of this text.</Empty>)}
    </Answer>
  );
}
