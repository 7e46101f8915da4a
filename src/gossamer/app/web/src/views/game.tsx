/** Are you smarter than an LLM? Name latents, sort texts; the same items for people and machines, nothing told before the end. */
import { useEffect, useRef, useState } from "react";
import { type Refusal, type Shapes, get, post } from "../api";
import { count, interval, number } from "../format";
import { Answer, Failed, Waiting, refusalOf, useAnswer } from "../parts/states";
import { DataTable } from "../parts/table";
import { Tools } from "../parts/tools";
import { hashOf, usePlace } from "../route";
import { around } from "../surroundings";

type Round = Shapes["GameRoundShape"];
type Result = Shapes["GameResult"];
interface Said { choice: number | null; written: string; answers: boolean[] }

export default function GameView({ id }: { id: string }) {
  const { query } = usePlace();
  const seed = /^\d{1,9}$/.test(query.get("seed") ?? "") ? Number(query.get("seed")) : 0;
  const features = /^([1-9]|1\d|20)$/.test(query.get("count") ?? "") ? Number(query.get("count")) : 10;
  const found = useAnswer(`game ${id} ${seed} ${features}`, (signal) => get("/api/v1/game/round", {}, { store: id, seed, count: features }, signal));
  return (
    <>
      <h1>Are you smarter than an LLM?</h1>
      <Answer of={found} waiting="Drawing latents and texts from the store …">{(round) => <Play key={`${round.round} ${seed}`} id={id} round={round} features={features} />}</Answer>
    </>
  );
}

function Play({ id, round, features }: { id: string; round: Round; features: number }) {
  const [said, setSaid] = useState<Said[]>([]);
  const [player, setPlayer] = useState("you");
  const [told, setTold] = useState<Result | Refusal | "asking" | null>(null);
  const last = said.at(-1);
  const item = last && last.answers.length < round.items[said.length - 1]!.sorted.length ? round.items[said.length - 1]! : null;
  const next = item ? null : round.items[said.length];
  const over = !item && !next;

  const name = (choice: number | null, written: string) => setSaid([...said, { choice, written, answers: [] }]);
  const sort = (answer: boolean) => setSaid(said.map((one, place) => (place === said.length - 1 ? { ...one, answers: [...one.answers, answer] } : one)));
  const back = () => {
    if (!last) return;
    if (last.answers.length) setSaid(said.map((one, place) => (place === said.length - 1 ? { ...one, answers: one.answers.slice(0, -1) } : one)));
    else setSaid(said.slice(0, -1));
  };
  const send = () => {
    setTold("asking");
    post("/api/v1/game/answer", {}, { store: id, seed: round.seed, count: features, round: round.round, player: player.trim() || "you", items: said }).then(setTold, (error: unknown) => setTold(refusalOf(error)));
  };
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName) || event.ctrlKey || event.metaKey || event.altKey || over) return;
      if (next && /^[1-8]$/.test(event.key) && Number(event.key) <= next.choices.length) name(Number(event.key) - 1, "");
      else if (item && event.key === "y") sort(true);
      else if (item && event.key === "n") sort(false);
      else if (event.key === "Backspace") back();
      else return;
      event.preventDefault();
    };
    const heard = around().keys();
    heard.addEventListener("keydown", keys as EventListener);
    return () => heard.removeEventListener("keydown", keys as EventListener);
  });
  const heading = useRef<HTMLHeadingElement>(null);
  const step = `${said.length} ${item ? "sort" : "name"}`;
  useEffect(() => { if (said.length) heading.current?.focus(); }, [step]);
  // What follows is the same for all: a rule and, where there is one, a language model got it as well.
  if (told !== null && told !== "asking" && !(told instanceof Error)) return <Told id={id} result={told} seed={round.seed} features={features} />;
  const number_ = item ? said.length : said.length + 1;
  return (
    <div className="game">
      <p className="note">{count(round.items.length, "latent")} of {round.model}. Of each you see texts in which it is active, choose or write what it stands for, and sort ten other texts. {round.machines.length ? `The same ones, in the same order, were given to ${round.machines.map((one) => (one === "rule" ? "a rule" : one)).join(" and ")}.` : ""} Nothing is told before the end. Keys: 1 to 4 choose, Y and N sort, Backspace takes the last answer back.</p>
      <progress max={round.items.length} value={over ? round.items.length : number_ - 1} aria-label="Progress of the round" />
      {!over && <h2 ref={heading} tabIndex={-1}>{number_} of {round.items.length}: latent {(item ?? next)!.blind}</h2>}
      {next && (
        <>
          <p>It is active at the marked tokens:</p>
          <ul className="plain written">{next.shown.map((text, place) => <li key={place}><Text text={text} /></li>)}</ul>
          <h3>What does it stand for?</h3>
          <ol className="plain choices">{next.choices.map((choice, place) => <li key={place}><button type="button" onClick={() => name(place, "")}><kbd>{place + 1}</kbd> <bdi>{choice}</bdi></button></li>)}</ol>
          <form className="fields" onSubmit={(event) => { event.preventDefault(); const own = String(new FormData(event.currentTarget).get("own") ?? "").trim(); if (own) name(null, own); }}>
            <label>or in your own words <input name="own" maxLength={512} key={next.blind} /></label><button type="submit">Say so</button>
          </form>
        </>
      )}
      {item && last && (
        <>
          <p>Is it active somewhere in this text? <b>{last.answers.length + 1} of {item.sorted.length}</b></p>
          <p className="panel sorting" aria-live="polite"><Text text={item.sorted[last.answers.length]!} /></p>
          <p className="note">You said: {last.written || item.choices[last.choice ?? 0]}</p>
          <p className="toolbar"><button type="button" onClick={() => sort(true)}><kbd>Y</kbd> yes</button><button type="button" onClick={() => sort(false)}><kbd>N</kbd> no</button></p>
        </>
      )}
      {over && (
        <>
          <h2 ref={heading} tabIndex={-1}>That is the round</h2>
          <form className="fields" onSubmit={(event) => { event.preventDefault(); send(); }}>
            <label>Your name on the leader board <input value={player} maxLength={40} onChange={(event) => setPlayer(event.target.value)} /></label>
            <button type="submit" className="primary" disabled={told === "asking"}>Tell me</button>
          </form>
          {round.kept && <p className="state">{round.kept}</p>}
          {told === "asking" && <Waiting>Comparing …</Waiting>}
          {told instanceof Error && <Failed error={told} retry={send} />}
        </>
      )}
      {said.length > 0 && told !== "asking" && <p><button type="button" onClick={back}>Take the last answer back</button></p>}
    </div>
  );
}

function Text({ text }: { text: Shapes["GameText"] }) {
  return <bdi className="text">{text.tokens.map((token, place) => (text.marks.includes(place) ? <mark key={place}>{token}</mark> : token))}</bdi>;
}

function Told({ id, result, seed, features }: { id: string; result: Result; seed: number; features: number }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const score = (one: Shapes["IntervalShape"] | null) => (one ? interval(one) : "–");
  return (
    <>
      <h2 ref={heading} tabIndex={-1}>The round {result.round}</h2>
      <DataTable
        rows={result.players} caption="Players of the round" file={`game-${result.round}`} keyOf={(row) => row.player} filter={false} marked={(row) => row === result.players[0]}
        note={<p className="note">Sorting: balanced accuracy over all texts; choosing: share of right sentences. 95 % intervals by Wilson. The machines were given each latent's own sentence.</p>}
        columns={[{ name: "player", left: true, value: (row) => row.player }, { name: "sorting [95 %]", value: (row) => row.sorting?.value ?? null, show: (row) => score(row.sorting) }, { name: "choosing [95 %]", value: (row) => row.choosing?.value ?? null, show: (row) => score(row.choosing) }]}
      />
      <section>
        <h2>What each latent stands for</h2>
        {result.items.map((item) => (
          <details key={item.blind} className="panel">
            <summary><code>{item.feature}</code> <bdi>{item.text}</bdi> <small>{item.written ? <>you wrote: {item.written}</> : item.right ? "✓ chosen" : "✗ not chosen"}; {count(item.truths.filter((truth, place) => truth === item.said[result.players[0]!.player]?.[place]).length, "text")} right</small></summary>
            <ul className="plain written">{item.texts.map((text, place) => <li key={place}><Text text={text} /><br /><small>{item.truths[place] ? "active" : "silent"}{Object.entries(item.said).map(([player, answers]) => answers[place] !== null && answers[place] !== undefined && ` · ${player}: ${answers[place] ? "yes" : "no"} ${answers[place] === item.truths[place] ? "✓" : "✗"}`)}</small></li>)}</ul>
          </details>
        ))}
      </section>
      <section>
        <h2>Leader board of this round</h2>
        {result.kept && <p className="state">{result.kept}</p>}
        <DataTable
          rows={result.board} caption="Leader board" file={`board-${result.round}`} keyOf={(_, index) => String(index)} filter={false}
          columns={[{ name: "player", left: true, value: (row) => row.player }, { name: "when", left: true, value: (row) => row.at }, { name: "sorting [95 %]", value: (row) => row.sorting, show: (row) => (row.sorting === null ? "–" : `${number(row.sorting)} [${number(row.low)}, ${number(row.high)}]`) }, { name: "choosing", value: (row) => row.choosing }]}
        />
      </section>
      <p className="toolbar"><a href={hashOf(["game", id], new URLSearchParams({ seed: String(seed + 1), count: String(features) }))}>Another round</a></p>
      <Tools name={`game-${result.round}`} data={result} python={`from gossamer.explain.game import drawn_round\nfrom gossamer.store import FeatureStore\n\nwith FeatureStore(${JSON.stringify(result.folder)}) as store:\n    made = drawn_round(store, ${features}, ${seed})\nfor item in made.items:\n    print(item.feature, item.choices[item.right])`} />
    </>
  );
}
