/** One broken prompt with a detector's clean values put back: its margin before, after, repaired and of the control. */
import { useId, useState } from "react";
import type { Shapes } from "../api";
import { count, number } from "../format";
import { DataTable } from "../parts/table";

type Failure = Shapes["FailureShape"];
type Repair = Shapes["PromptRepairShape"];
type Detectors = Shapes["DetectorShape"][];

/** The button with its choice of groups, what pressing it shows, and every group in a table. */
export function Repairs({ failure, detectors, nodes, file }: { failure: Failure; detectors: Detectors; nodes: number; file: string }) {
  const [which, setWhich] = useState(0);
  const [pressed, setPressed] = useState(false);
  const name = useId();
  if (failure.repairs === null) return <p className="note">This file was written before single prompts were repaired: run <code>gossamer adversarial</code> again to repair this one.</p>;
  if (failure.repairs.length === 0) return <p className="note">Not repaired: the edits change the right answer, so clean values would speak for another one.</p>;
  const repairs = failure.repairs;
  const chosen = repairs[which] ?? repairs[0]!;
  return (
    <div className="repair">
      <div className="fields">
        <label htmlFor={name}>put back</label>
        <select id={name} value={which} onChange={(event) => setWhich(Number(event.target.value))}>
          {repairs.map((one, place) => <option key={place} value={place}>{groupName(one, detectors, nodes)}, moved {number(moved(one), true)}</option>)}
        </select>
        <button type="button" className={pressed ? "" : "primary"} aria-pressed={pressed} onClick={() => setPressed(!pressed)}>{pressed ? "Undo" : "Repair"}</button>
      </div>
      <div aria-live="polite">{pressed && <Repaired failure={failure} repair={chosen} size={sizeOf(chosen, detectors, nodes)} />}</div>
      <details>
        <summary>Detectors before and after</summary>
        <DataTable
          rows={repairs} caption="Detectors before and after" file={file} keyOf={(row) => String(row.detector)} filter={false} marked={(row) => pressed && row === chosen}
          note={<p className="note">A detector's value is that of its nodes, in logits to first order. The detectors that the recipe moves most, those that move most here first.</p>}
          columns={[
            { name: "put back", left: true, value: (row) => groupName(row, detectors, nodes) }, { name: "value before", value: (row) => row.before, show: (row) => number(row.before, true) }, { name: "after", value: (row) => row.after, show: (row) => number(row.after, true) },
            { name: "margin repaired", value: (row) => row.patched, show: (row) => number(row.patched, true) }, { name: "restored", value: (row) => row.share, show: (row) => whole(row.share) },
            { name: "margin, random latents", value: (row) => row.random, show: (row) => number(row.random, true) }, { name: "restored by them", value: (row) => row.random_share, show: (row) => whole(row.random_share) },
          ]}
        />
      </details>
    </div>
  );
}

function Repaired({ failure, repair, size }: { failure: Failure; repair: Repair; size: number }) {
  const right = (repair.patched ?? 0) > 0;
  return (
    <>
      <p>
        <b>{right ? "Right again" : "Still wrong"}:</b> putting {count(size, "node")} back restores {whole(repair.share)} of the margin; {count(size, "random active latent")} {size === 1 ? "restores" : "restore"} {whole(repair.random_share)}.
      </p>
      <Scale failure={failure} repair={repair} />
      <p className="note">Bars begin at the margin after the edits. Dashed: a margin of 0; the model is right beyond it.</p>
    </>
  );
}

/** Four margins on one scale with its zero; each row is a bar from the failing margin, as far as it comes back. */
function Scale({ failure, repair }: { failure: Failure; repair: Repair }) {
  const rows = [
    { name: "clean prompt", value: failure.before, share: null, look: "whole" },
    { name: "after the edits", value: failure.after, share: null, look: "failing" },
    { name: "repaired", value: repair.patched, share: repair.share, look: "repaired" },
    { name: "random latents", value: repair.random, share: repair.random_share, look: "random" },
  ];
  const values = [0, ...rows.map((row) => row.value ?? 0)];
  const low = Math.min(...values);
  const place = (value: number) => 1 + (98 * (value - low)) / (Math.max(...values) - low || 1);
  const from = place(failure.after ?? 0);
  return (
    <dl className="scale">
      {rows.map(({ name, value, share, look }) => {
        const at = place(value ?? 0);
        return (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <svg className={look} aria-hidden="true">
                <line className="zero" x1={`${place(0)}%`} x2={`${place(0)}%`} y1="0" y2="100%" />
                <rect className="bar" x={`${Math.min(from, at)}%`} width={`${Math.abs(at - from)}%`} y="5" height="8" />
                <line className="mark" x1={`${at}%`} x2={`${at}%`} y1="2" y2="16" />
              </svg>
              <span>margin {number(value, true)}{share === null ? "" : `, ${whole(share)}`}</span>
            </dd>
          </div>
        );
      })}
    </dl>
  );
}

/** A share in whole percent: more digits would say more than one prompt does. */
function whole(share: number | null): string {
  return share === null ? "–" : `${Math.round(100 * share) || 0} %`.replace("-", "−");
}

function moved(one: Repair): number {
  return (one.after ?? 0) - (one.before ?? 0);
}

function sizeOf(one: Repair, detectors: Detectors, nodes: number): number {
  return one.detector === null ? nodes : (detectors[one.detector]?.nodes.length ?? 0);
}

function groupName(one: Repair, detectors: Detectors, nodes: number): string {
  if (one.detector === null) return `the whole circuit (${count(nodes, "node")})`;
  const own = detectors[one.detector]?.nodes ?? [];
  return `detector ${one.detector + 1}: ${own[0] ?? ""}${own.length > 1 ? ` and ${own.length - 1} more` : ""}`;
}
