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

export function Tables({ name, tables }: { name: string; tables: Shapes["Table"][] }) {
  return tables.map((table) => (
    <section key={table.title}>
      <h2>{table.title}</h2>
      <DataTable
        rows={table.rows} caption={table.title} file={`${name}-${table.title.replace(/\W+/g, "-").toLowerCase()}`} keyOf={(_, index) => String(index)} filter={table.rows.length > 15}
        note={table.note && <p className="note">{table.note}</p>}
        columns={table.columns.map((column, index) => ({ name: column, left: index === 0 || table.rows.some((row) => typeof row[index] === "string" && row[index] !== ""), value: (row: Shapes["Table"]["rows"][number]) => row[index] ?? null }))}
      />
    </section>
  ));
}
