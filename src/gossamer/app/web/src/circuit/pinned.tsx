/** What is pinned, and what it does by itself: measured by the library whenever it changes. */
import { useEffect, useState } from "react";
import { type Refusal, type Shapes, post } from "../api";
import { count, interval, number } from "../format";
import { Failed, Waiting, refusalOf } from "../parts/states";
import { faithfulness } from "./measured";
import { type Marks, type MarksOf, NONE, pin } from "./marks";

type Score = Shapes["Score"];

export function Pinned({ page, of, choose }: { page: Shapes["CircuitPage"]; of: MarksOf; choose: (name: string) => void }) {
  const { marks, change, undo, redo } = of;
  return (
    <section className="panel pinned" aria-label="Pinned nodes">
      <header>
        <h3>{marks.pinned.length ? `${count(marks.pinned.length, "node")} pinned` : "Nothing pinned"}</h3>
        <div className="toolbar">
          <button type="button" disabled={!undo} onClick={() => undo?.()} title="Undo (U)">Undo</button>
          <button type="button" disabled={!redo} onClick={() => redo?.()} title="Redo (Shift+U)">Redo</button>
          <button type="button" disabled={marks.pinned.length === page.map.nodes.length} onClick={() => change((now) => ({ ...now, pinned: page.map.nodes.map((node) => node.id) }))}>Pin all</button>
          <button type="button" disabled={marks === NONE || !marks.pinned.length} onClick={() => change((now) => ({ ...now, pinned: [] }))}>Unpin all</button>
        </div>
      </header>
      <ul className="chips">
        {marks.pinned.map((name) => (
          <li key={name}>
            <button type="button" onClick={() => choose(name)}>{titleOf(page, marks, name)}</button>
            <button type="button" aria-label={`Unpin ${name}`} onClick={() => change(pin(name))}>×</button>
          </li>
        ))}
      </ul>
      {page.live === null ? <Live id={page.id} pinned={marks.pinned} unit={page.unit} metric={page.metric} /> : <p className="note">Nothing can be measured here: {page.live}.</p>}
    </section>
  );
}

export function titleOf(page: Shapes["CircuitPage"], marks: Marks, name: string): string {
  const node = page.map.nodes.find((one) => one.id === name);
  return marks.labels[name] ?? (node?.words.length ? `${node.words[0]} ${name}` : name);
}

/** What the server said last, and to which question: numbers say themselves what they were measured on, so none stands under another's name. */
type Answer = { asked: string; heldOut: boolean; score: Score | null; error: Refusal | null };

/** Numbers of the pinned nodes. While others are measured the last ones stay, greyed, so that the eye can compare. */
function Live({ id, pinned, metric, unit }: { id: string; pinned: string[]; metric: string; unit: string }) {
  const [last, setLast] = useState<Answer | null>(null);
  const [heldOut, setHeldOut] = useState(false);
  const [again, setAgain] = useState(0);
  const key = pinned.join(" ");
  const asked = JSON.stringify([id, key, heldOut, again]);
  useEffect(() => setHeldOut(false), [key]);
  useEffect(() => {
    if (!pinned.length) return setLast(null);
    const stop = new AbortController();
    const keep = (answer: Pick<Answer, "score" | "error">) => !stop.signal.aborted && setLast({ asked, heldOut, ...answer });
    const timer = setTimeout(() => {
      post("/api/v1/circuits/{circuit}/score", { circuit: id }, { nodes: pinned, prompts: heldOut ? "held out" : "choice" }, stop.signal).then(
        (score) => keep({ score, error: null }),
        (error: unknown) => keep({ score: null, error: refusalOf(error) }),
      );
    }, 250);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [asked]);
  if (!pinned.length) return <p className="note">Pin nodes (P) to see what they keep of the task by themselves, and what is left without them.</p>;
  const measuring = last?.asked !== asked;
  if (!measuring && last?.error) return <Failed error={last.error} retry={() => setAgain(again + 1)} />;
  const score = last?.score;
  return (
    <div className={measuring ? "stale" : ""} aria-busy={measuring}>
      {score ? <Numbers score={score} metric={metric} unit={unit} /> : <Waiting>Measuring; the first time loads the model …</Waiting>}
      <div aria-live="polite" className="hidden">{score && !measuring ? `The pinned nodes keep ${number(score.pinned.faithfulness.value)} of the task` : ""}</div>
      {score && (
        <p className="note">
          {last?.heldOut ? `On ${count(score.prompts, "held-out prompt")}.` : `On ${count(score.prompts, "prompt")}: ${score.measured_on}. A choice made by looking at these numbers has to be reported on others.`}{" "}
          {!heldOut && <button type="button" onClick={() => setHeldOut(true)}>Measure on the held-out prompts</button>}
        </p>
      )}
    </div>
  );
}

function Numbers({ score, metric, unit }: { score: Score; metric: string; unit: string }) {
  const rows: [string, Shapes["Metrics"], string][] = [
    ["pinned nodes alone", score.pinned, "ours"], ["the whole circuit", score.circuit, ""], ["no node", score.empty, ""], ["all latents", score.dictionaries, ""], ["all but the pinned", score.without, "against"],
  ];
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="What the pinned nodes do">
      <table className="scores">
        <thead><tr><th className="left" scope="col">network</th><th scope="col">faithfulness [95 %]</th><th scope="col" /><th scope="col" title="mean over prompts of how far the metric is from the model's, in units of faithfulness">per-prompt error</th><th scope="col" title="share of the prompts that it gets right">accuracy</th><th scope="col" title="from the model, nats">KL</th></tr></thead>
        <tbody>
          {rows.map(([name, one, look]) => (
            <tr key={name} className={look}>
              <th scope="row" className="left">{name}</th>
              <td title={`${metric} ${number(one.metric.value)} ${unit}`}>{faithfulness(one)}</td>
              <td className="meter"><Meter value={one.faithfulness} /></td>
              <td title={interval(one.prompt_error)}>{number(one.prompt_error.value)}</td><td>{number(one.accuracy)}</td><td>{number(one.kl)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {score.footnote && <p className="note">{score.footnote}</p>}
    </div>
  );
}

/** A share from 0 to 1 as a bar with its interval; what lies outside is cut off, the number beside it is not. */
function Meter({ value }: { value: Shapes["IntervalShape"] }) {
  const at = (one: number | null) => 100 * Math.min(Math.max(one ?? 0, 0), 1);
  return (
    <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect className="back" width="100" height="10" /><rect className="bar" width={at(value.value)} height="10" />
      <rect className="span" x={at(value.low)} width={Math.max(0.8, at(value.high) - at(value.low))} y="4" height="2" />
    </svg>
  );
}
