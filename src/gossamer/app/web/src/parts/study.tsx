/** What studies have in common: the report's pictures and tables. */
import type { Shapes } from "../api";
import { DataTable } from "./table";
import { save } from "./tools";

export function Pictures({ name, pictures }: { name: string; pictures: Shapes["Picture"][] }) {
  return pictures.map((one) => (
    <figure key={one.name} className="picture">
      <img src={`data:image/svg+xml;base64,${btoa(unescape(encodeURIComponent(one.svg)))}`} alt={`${one.title}; the tables have the numbers`} />
      <figcaption>{one.title} <button type="button" onClick={() => save(`${name}-${one.name}.svg`, one.svg, "image/svg+xml")}>SVG</button></figcaption>
    </figure>
  ));
}

type Row = Shapes["Table"]["rows"][number];

/** A cell that is a number, or begins with one before its interval, sorts as that number. */
function order(cell: Row[number] | undefined): string | number | null {
  if (cell === undefined || cell === null || cell === "") return null;
  const found = typeof cell === "string" ? /^[-\u2212]?\d[\d.,]*(e-?\d+)?(?= \[|$)/.exec(cell)?.[0] : undefined;
  return found === undefined ? cell : Number(found.replace("\u2212", "-").replaceAll(",", ""));
}

/** The report's tables; a first cell of these names leads to what it names. */
export function Tables({ name, tables, links }: { name: string; tables: Shapes["Table"][]; links?: Record<string, string> }) {
  return tables.map((table) => (
    <section key={table.title}>
      <h2>{table.title}</h2>
      <ReportTable table={table} file={`${name}-${table.title.replace(/\W+/g, "-").toLowerCase()}`} note={table.note} links={links} />
    </section>
  ));
}

export function ReportTable({ table, file, note, links = {} }: { table: Shapes["Table"]; file: string; note: string; links?: Record<string, string> }) {
  return (
    <DataTable
      rows={table.rows} caption={table.title} file={file} keyOf={(_, index) => String(index)} filter={table.rows.length > 15}
      note={note && <p className="note">{note}</p>} footnote={table.footnote}
      columns={table.columns.map((column, index) => ({
        name: column, left: index === 0 || table.rows.some((row) => typeof order(row[index]) === "string"), value: (row: Row) => row[index] ?? null, order: (row: Row) => order(row[index]),
        ...(index === 0 && table.rows.some((row) => links[String(row[0])]) && { show: (row: Row) => <Linked cell={String(row[0])} to={links[String(row[0])]} /> }),
      }))}
    />
  );
}

function Linked({ cell, to }: { cell: string; to?: string }) {
  return to ? <a href={to}>{cell}</a> : cell;
}
