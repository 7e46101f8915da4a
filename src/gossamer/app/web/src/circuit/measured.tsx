/** What stands together wherever a network's faithfulness does. */
import type { Shapes } from "../api";
import { interval } from "../format";
import type { ColumnOf } from "../parts/table";

/** Of a network that was measured, or of a circuit that was not. */
type Measured = Pick<Shapes["Metrics"], "accuracy" | "kl" | "mark"> & Record<"faithfulness" | "prompt_error", Shapes["IntervalShape"] | null>;

/** Faithfulness with the server's mark, then what its mean hides. */
export function measured<T>(of: (row: T) => Measured): ColumnOf<T>[] {
  return [
    { name: "faithfulness", value: (row) => of(row).faithfulness?.value ?? null, show: (row) => faithfulness(of(row)) },
    { name: "per-prompt error", value: (row) => of(row).prompt_error?.value ?? null, show: (row) => written(of(row).prompt_error) },
    { name: "accuracy", value: (row) => of(row).accuracy },
    { name: "KL, nats", value: (row) => of(row).kl },
  ];
}

export function faithfulness(one: Measured): string {
  return one.faithfulness === null ? "not evaluated" : interval(one.faithfulness) + one.mark;
}

function written(one: Shapes["IntervalShape"] | null): string {
  return one === null ? "–" : interval(one);
}

/** What the mark says, for a table of which a row has it. */
export function footnoteOf(rows: { mark: string }[], footnote: string | null): string | null {
  return rows.some((row) => row.mark) ? footnote : null;
}
