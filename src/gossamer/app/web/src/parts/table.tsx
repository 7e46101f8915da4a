/** A table that sorts, filters and leaves as CSV; long ones show their first rows and say how many there are. */
import { type ReactNode, useMemo, useState } from "react";
import { count, number } from "../format";
import { save } from "./tools";

export interface ColumnOf<T> {
  name: string;
  /** What is sorted, filtered and saved. */
  value: (row: T) => string | number | null;
  /** What is shown, where it is more than the value. */
  show?: (row: T) => ReactNode;
  left?: boolean;
  /** What it is sorted by, where that is not the value. */
  order?: (row: T) => string | number | null;
}

const STEP = 200;

export function DataTable<T>({ rows, columns, file, caption, keyOf, filter = true, marked, note, footnote }: {
  rows: T[]; columns: ColumnOf<T>[]; file: string; caption: string; keyOf: (row: T, index: number) => string; filter?: boolean; marked?: (row: T) => boolean; note?: ReactNode;
  /** What a mark in its cells says: stands under the table. */
  footnote?: string | null;
}) {
  const [sorted, setSorted] = useState<{ column: number; falling: boolean } | null>(null);
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(STEP);
  const found = useMemo(() => ordered(rows, columns, sorted, wanted), [rows, columns, sorted, wanted]);
  const sort = (column: number) => setSorted((now) => (now?.column === column ? { column, falling: !now.falling } : { column, falling: !columns[column]?.left }));
  const csv = () => save(`${file}.csv`, [columns.map((one) => one.name), ...found.map((row) => columns.map((one) => one.value(row)))].map((line) => line.map(quoted).join(",")).join("\n") + "\n", "text/csv");
  return (
    <div className="datatable">
      <div className="toolbar">
        {filter && <label>Filter <input type="search" value={wanted} onChange={(event) => setWanted(event.target.value)} /></label>}
        <output>{found.length === rows.length ? count(rows.length, "row") : `${found.length} of ${count(rows.length, "row")}`}</output>
        <button type="button" onClick={csv}>CSV</button>
      </div>
      {note}
      <div className="scroll" tabIndex={0} role="region" aria-label={caption}>
        <table>
          <caption className="hidden">{caption}</caption>
          <thead>
            <tr>
              {columns.map((one, index) => (
                <th key={index} scope="col" className={one.left ? "left" : ""} aria-sort={sorted?.column === index ? (sorted.falling ? "descending" : "ascending") : undefined}>
                  <button type="button" onClick={() => sort(index)}>{one.name}</button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.slice(0, shown).map((row, index) => (
              <tr key={keyOf(row, index)} className={marked?.(row) ? "marked" : ""}>
                {columns.map((one, place) => <td key={place} className={one.left ? "left" : ""}>{one.show ? one.show(row) : written(one.value(row))}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {footnote && <p className="note">{footnote}</p>}
      {found.length > shown && <p><button type="button" onClick={() => setShown(shown + STEP)}>Show more: {found.length - shown} of {count(found.length, "row")} hidden</button></p>}
    </div>
  );
}

function written(value: string | number | null): string {
  return typeof value === "string" ? value : Number.isInteger(value) ? (value as number).toLocaleString("en-US") : number(value);
}

function quoted(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  // A cell that begins like a formula is text to a spreadsheet only behind an apostrophe.
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function ordered<T>(rows: T[], columns: ColumnOf<T>[], sorted: { column: number; falling: boolean } | null, wanted: string): T[] {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = words.length ? rows.filter((row) => words.every((word) => columns.some((one) => String(one.value(row) ?? "").toLowerCase().includes(word)))) : rows;
  const by = sorted === null ? undefined : columns[sorted.column];
  if (!by || sorted === null) return kept;
  const sign = sorted.falling ? -1 : 1;
  return [...kept].sort((a, b) => {
    const [p, q] = [a, b].map(by.order ?? by.value) as [string | number | null, string | number | null];
    if (p === null || q === null) return p === q ? 0 : p === null ? 1 : -1; // what is unknown comes last either way
    return sign * (typeof p === "number" && typeof q === "number" ? p - q : String(p).localeCompare(String(q)));
  });
}
