/** The map of a circuit: the component that the report draws with, and the reader's marks on it. */
import { useEffect, useMemo, useRef } from "react";
import { mountCircuitMap } from "../../../../report/components/circuit_map.js";
import { mapPicture } from "../../../../report/components/map_picture.js";
import type { Shapes } from "../api";
import type { Marks } from "./marks";

type Mounted = ReturnType<typeof mountCircuitMap>;
export type MapData = Shapes["MapData"];

/** `picture` is given a function that draws what is seen as an SVG picture. */
export function CircuitMap({ data, marks, onChosen, picture }: { data: MapData; marks: Marks; onChosen: (nodes: string[]) => void; picture?: { current: () => string | null } }) {
  const host = useRef<HTMLDivElement>(null);
  const mounted = useRef<Mounted | null>(null);
  const told = useRef(onChosen);
  told.current = onChosen;
  const drawn = useMemo(() => marked(data, marks), [data, marks]);
  useEffect(() => {
    if (!host.current) return;
    const map = mountCircuitMap(host.current, drawn as never, { onFocus: (box) => box && told.current(box.nodes.map((node) => node.id)) });
    mounted.current = map;
    if (picture) picture.current = () => host.current && mapPicture(host.current);
    return () => {
      map.destroy();
      mounted.current = null;
    };
    // Mounted once; later marks go through `update`, which keeps what is chosen.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [data]);
  useEffect(() => mounted.current?.update(drawn as never), [drawn]);
  return <div ref={host} className="map-host" />;
}

/** The map's data with what the reader calls nodes, and groups; the map folds nodes of one row. */
function marked(data: MapData, marks: Marks): MapData {
  const rows = new Map(data.nodes.map((node) => [node.id, node.row]));
  const pinned = new Set(marks.pinned);
  const nodes = data.nodes.map((node) => {
    const words = marks.labels[node.id] ? [marks.labels[node.id]!] : node.words.length ? node.words : [node.name];
    return pinned.has(node.id) ? { ...node, words: [`● ${words[0]}`, ...words.slice(1)] } : { ...node, words };
  });
  const groups = marks.groups.flatMap((one, index) => {
    const byRow = new Map<number, string[]>();
    for (const name of one.nodes) byRow.set(rows.get(name) ?? -1, [...(byRow.get(rows.get(name) ?? -1) ?? []), name]);
    return [...byRow].map(([row, names]) => ({ id: `group-${index}-${row}`, label: byRow.size > 1 ? `${one.name} (${data.rows[row]})` : one.name, nodes: names, effect: null }));
  });
  return { ...data, nodes, groups };
}
