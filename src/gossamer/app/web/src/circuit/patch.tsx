/** Move nodes in the model on one prompt and see what it says next. */
import { useEffect, useState } from "react";
import { type Refusal, type Shapes, get, post } from "../api";
import { count, number } from "../format";
import { Answer, Failed, Waiting, refusalOf, useAnswer } from "../parts/states";

type Mode = Shapes["PatchRequest"]["mode"];
const MODES: Record<Mode, string> = { mean: "their mean over counterfactuals", zero: "zero", resample: "what they are in the prompt's counterfactual", value: "a value" };

export function Patch({ id, chosen, pinned, metric, unit }: { id: string; chosen: string[]; pinned: string[]; metric: string; unit: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="panel patch" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary><h3>Patch nodes and see the logits</h3></summary>
      {open && <Asking id={id} chosen={chosen} pinned={pinned} metric={metric} unit={unit} />}
    </details>
  );
}

function Asking({ id, chosen, pinned, metric, unit }: { id: string; chosen: string[]; pinned: string[]; metric: string; unit: string }) {
  const prompts = useAnswer(`prompts ${id}`, (signal) => get("/api/v1/circuits/{circuit}/prompts", { circuit: id }, { limit: 500 }, signal));
  const [which, setWhich] = useState<"chosen" | "pinned">("chosen");
  const [mode, setMode] = useState<Mode>("mean");
  const [value, setValue] = useState(0);
  const [prompt, setPrompt] = useState(0);
  const [found, setFound] = useState<Shapes["Patched"] | Refusal | "asking" | null>(null);
  const nodes = which === "chosen" ? chosen : pinned;
  useEffect(() => setFound(null), [nodes.join(" "), mode, value, prompt]);
  const ask = () => {
    setFound("asking");
    post("/api/v1/circuits/{circuit}/patch", { circuit: id }, { nodes, mode, value, prompt }).then(setFound, (error: unknown) => setFound(refusalOf(error)));
  };
  return (
    <Answer of={prompts} waiting="Loading the model and its prompts …">
      {(list) => (
        <form onSubmit={(event) => { event.preventDefault(); ask(); }}>
          <div className="fields">
            <label>Move <select value={which} onChange={(event) => setWhich(event.target.value as "chosen" | "pinned")}><option value="chosen">the chosen node ({chosen.length})</option><option value="pinned">the pinned nodes ({pinned.length})</option></select></label>
            <label>to <select value={mode} onChange={(event) => setMode(event.target.value as Mode)}>{Object.entries(MODES).map(([name, said]) => <option key={name} value={name}>{said}</option>)}</select></label>
            {mode === "value" && <label><span className="hidden">value</span><input type="number" step="any" value={value} onChange={(event) => setValue(Number(event.target.value))} /></label>}
            <label className="wide">on the held-out prompt <select value={prompt} onChange={(event) => setPrompt(Number(event.target.value))}>{list.rows.map((row) => <option key={row.row} value={row.row}>{row.text} → {row.answer}</option>)}</select></label>
            <button type="submit" className="primary" disabled={!nodes.length || found === "asking"}>Patch</button>
          </div>
          {list.total > list.rows.length && <p className="note">The first {list.rows.length} of {count(list.total, "prompt")}.</p>}
          {!nodes.length && <p className="note">{which === "chosen" ? "Choose a node in the map first." : "Pin nodes first."}</p>}
          {found === "asking" && <Waiting>Running the model …</Waiting>}
          {found instanceof Error ? <Failed error={found} retry={ask} /> : found !== null && found !== "asking" && <Found found={found} metric={metric} unit={unit} />}
        </form>
      )}
    </Answer>
  );
}

function Found({ found, metric, unit }: { found: Shapes["Patched"]; metric: string; unit: string }) {
  const most = Math.max(...found.words.map((one) => Math.max(one.probability ?? 0, one.patched_probability ?? 0)), 1e-12);
  return (
    <div aria-live="polite">
      <p className="prompt">{found.prompt.tokens.map((token, index) => <bdi key={index} className="chip" title={found.prompt.roles[index] ?? "passes through"}>{token}</bdi>)} <span className="muted">→</span> <bdi className="chip">{found.prompt.answer}</bdi> <span className="muted">not</span> <bdi className="chip">{found.prompt.incorrect}</bdi></p>
      <p><b>{metric}</b> {number(found.metric)} → <b>{number(found.patched_metric)}</b> {unit}; KL from the model {number(found.kl)} nats</p>
      <div className="scroll" tabIndex={0} role="region" aria-label="Tokens before and after">
        <table>
          <thead><tr><th className="left" scope="col">next token</th><th scope="col">logit</th><th scope="col">patched</th><th scope="col">probability</th><th scope="col">patched</th><th scope="col" /></tr></thead>
          <tbody>
            {found.words.map((one) => (
              <tr key={one.word}>
                <th scope="row" className="left"><bdi className="chip">{one.word}</bdi>{one.word === found.prompt.answer ? " right" : one.word === found.prompt.incorrect ? " wrong" : ""}</th>
                <td>{number(one.logit)}</td><td>{number(one.patched_logit)}</td><td>{number(one.probability)}</td><td>{number(one.patched_probability)}</td>
                <td className="meter"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect className="back" width={(100 * (one.probability ?? 0)) / most} height="4" /><rect className="bar" y="5" width={(100 * (one.patched_probability ?? 0)) / most} height="5" /></svg></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
