/** A circuit in the formats of other programs: as files from the server, and as a picture of what is seen. */
import { useState } from "react";
import { type Shapes, file, get } from "../api";
import { around } from "../surroundings";
import { Failed, refusalOf, useAnswer } from "./states";
import { save } from "./tools";

const FORMATS = [
  ["neuronpedia", "Neuronpedia", "an attribution graph for Neuronpedia's upload"],
  ["circuit-tracer", "circuit-tracer", "a folder, as a ZIP archive, for circuit-tracer's server"],
  ["graphml", "GraphML", "for networkx, Gephi, yEd"],
  ["svg", "Figure (SVG)", "the figure for a paper"],
  ["html", "Map (HTML)", "the map alone, in a page that works without a server"],
] as const;

export function Exports({ page, picture }: { page: Shapes["CircuitPage"]; picture: () => string | null }) {
  const [views] = useAnswer(`views ${page.id} ${page.digest}`, (signal) => get("/api/v1/circuits/{circuit}/views", { circuit: page.id }, undefined, signal));
  const [view, setView] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState("");
  const names = views.state === "answered" ? views.value.names : [];
  const write = (format: (typeof FORMATS)[number][0]) => {
    setError(null);
    setBusy(format);
    file("/api/v1/circuits/{circuit}/export", { circuit: page.id }, { format, ...(view ? { view } : {}) }).then(
      ({ name, content, type }) => save(name, content, type),
      setError,
    ).finally(() => setBusy(""));
  };
  const seen = () => {
    const drawn = picture();
    if (drawn) save(`${page.task}-map.svg`, drawn, "image/svg+xml");
  };
  return (
    <section className="exports" aria-label="Export">
      <div className="toolbar">
        <span className="muted">Export</span>
        <button type="button" onClick={seen} title="the map as it is drawn now, as an SVG picture">This drawing (SVG)</button>
        {FORMATS.filter(([format]) => around().served && (page.findings !== null || (format !== "svg" && format !== "html"))).map(([format, name, does]) => (
          <button key={format} type="button" title={does} disabled={busy !== ""} onClick={() => write(format)}>{busy === format ? "Writing …" : name}</button>
        ))}
        {names.length > 0 && <label>Graphs with <select value={view} onChange={(event) => setView(event.target.value)}><option value="">the groups that were found</option>{names.map((one) => <option key={one} value={one}>pins, groups and labels of {one}</option>)}</select></label>}
      </div>
      {error !== null && <Failed error={refusalOf(error)} />}
    </section>
  );
}
