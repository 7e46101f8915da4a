/** The picture of a graph: sigma in a div, the camera's box told to whoever asks for more, keys that walk along edges. */
import Graph from "graphology";
import { useEffect, useRef, useSyncExternalStore } from "react";
import Sigma from "sigma";
import { type Drawn, type DrawnEdge, other } from "./graph_data";
import { type Placed, type Wanted, nameAt, placed } from "./labels";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const useDark = () => useSyncExternalStore((changed) => { DARK.addEventListener("change", changed); return () => DARK.removeEventListener("change", changed); }, () => DARK.matches);
const COLOURS = {
  light: ["#1a5ba6", "#c4551b", "#2f7a55", "#8a3f9c", "#a07800", "#0d8a99", "#c2376b", "#5b6b1f", "#6a5acd", "#8a5a3c", "#59626e", "#2b2f36"],
  dark: ["#6cb0ff", "#ff9a5c", "#6fcf9a", "#d59be6", "#e0bf52", "#5fd0de", "#ff8fb4", "#b5cc62", "#ada3ff", "#d8a684", "#a0a9b4", "#e4e8ec"],
};
const INK = { light: { paper: "#ffffff", text: "#1c2128", edge: "#9aa6b2", faint: "#eef1f4", near: "#59626e" }, dark: { paper: "#14181d", text: "#e4e8ec", edge: "#5a6572", faint: "#1d232a", near: "#a0a9b4" } };
const PAUSE = 250;
// Of what the chosen node has edges with, so many have their names beside them.
const NAMED = 12;
const FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace", LETTER = 11, LINE = 14;
// Longer names end in an ellipsis; the panel and the table have them whole.
const LONGEST = 34;

export type Box = [left: number, bottom: number, right: number, top: number];

export function Canvas({ drawn, focus, setFocus, open, onBox, label }: { drawn: Drawn; focus: string | null; setFocus: (id: string | null) => void; open: (id: string) => void; onBox: (box: Box) => void; label: string }) {
  const host = useRef<HTMLDivElement>(null);
  const sigma = useRef<Sigma | null>(null);
  const scheme: "light" | "dark" = useDark() ? "dark" : "light";
  const now = useRef({ drawn, focus, setFocus, open, onBox, scheme, from: null as string | null });
  Object.assign(now.current, { drawn, focus, setFocus, open, onBox, scheme });
  useEffect(() => {
    if (!host.current) return;
    const wanted: Wanted[] = [];
    let names: Placed[] = [];
    const made = new Sigma(new Graph({ multi: true, type: "directed" }), host.current, {
      allowInvalidContainer: true, hideEdgesOnMove: true, labelDensity: 1.5, labelGridCellSize: 70, labelRenderedSizeThreshold: 4, zIndex: true, minCameraRatio: 0.002, maxCameraRatio: 1.6,
      stagePadding: 12, defaultDrawNodeHover: () => {},
      // Only noted down: where each name has room is known when all are.
      defaultDrawNodeLabel: (_, data) => {
        const { key, zIndex, forceLabel } = data as unknown as { key: string; zIndex: number; forceLabel?: boolean };
        if (data.label) wanted.push({ key, text: shortened(data.label), x: data.x, y: data.y, radius: data.size, rank: (forceLabel ? 1e6 * (1 + zIndex) : 0) + data.size });
      },
      nodeReducer: (id, data) => nodeLook(id, data, now.current),
      edgeReducer: (_, data) => edgeLook(data, now.current),
    });
    made.on("clickNode", ({ node }) => { now.current.from = null; now.current.setFocus(node); });
    made.on("doubleClickNode", ({ node, preventSigmaDefault }) => { preventSigmaDefault(); now.current.open(node); });
    made.on("clickStage", ({ event }) => { now.current.from = null; now.current.setFocus(nameAt(names, event.x, event.y)?.key ?? null); });
    made.on("beforeRender", () => { wanted.length = 0; });
    made.on("afterRender", () => { names = written(made, wanted, now.current.scheme); });
    let timer = 0;
    made.getCamera().on("updated", () => { clearTimeout(timer); timer = window.setTimeout(() => now.current.onBox(boxOf(made)), PAUSE); });
    sigma.current = made;
    return () => { clearTimeout(timer); made.kill(); sigma.current = null; };
  }, []);
  const frame = (drawn.header.tile ?? [0, 0, 1, 1]).join();
  useEffect(() => {
    const [left, bottom, right, top] = frame.split(",").map(Number) as [number, number, number, number];
    // The same square whatever is drawn of it.
    sigma.current?.setCustomBBox({ x: [left, right], y: [bottom, top] });
    sigma.current?.getCamera().setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 });
  }, [frame]);
  useEffect(() => { if (sigma.current) fill(sigma.current, drawn, scheme); }, [drawn, scheme]);
  useEffect(() => { sigma.current?.refresh({ skipIndexation: true }); }, [focus, scheme]);
  const key = (event: React.KeyboardEvent) => {
    const camera = sigma.current?.getCamera();
    if (event.ctrlKey || event.metaKey || event.altKey || !camera) return;
    if (event.key === "+" || event.key === "=") void camera.animatedZoom({ duration: 0 });
    else if (event.key === "-") void camera.animatedUnzoom({ duration: 0 });
    else if (event.key === "0") camera.setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 });
    else if (event.key === "Enter" && focus !== null) open(focus);
    else if (event.key === "Escape") setFocus(null);
    else if (event.key.startsWith("Arrow") || event.key === "Home") walk(event.key);
    else return;
    event.preventDefault();
  };
  const walk = (name: string) => {
    const next = nextOf(name, drawn, focus, now.current.from);
    if (next === null) return;
    now.current.from = next.from;
    setFocus(next.id);
    const [node, made] = [drawn.byId.get(next.id), sigma.current];
    if (!node || !made) return;
    const at = made.graphToViewport(node);
    const { width, height } = made.getDimensions();
    if (at.x < 20 || at.y < 20 || at.x > width - 20 || at.y > height - 20) { const { x, y } = made.viewportToFramedGraph(at); made.getCamera().setState({ x, y }); }
  };
  return <div ref={host} className="graph-canvas" tabIndex={0} role="application" aria-label={label} onKeyDown={key} />;
}

const shortened = (name: string) => (name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name);

/** Write names where they have room, each on a rim of paper. */
function written(sigma: Sigma, wanted: Wanted[], scheme: "light" | "dark"): Placed[] {
  const context = sigma.getCanvases().labels?.getContext("2d");
  if (!context) return [];
  context.font = `${LETTER}px ${FONT}`;
  context.textBaseline = "middle";
  const found = placed(wanted, (text) => context.measureText(text).width, LINE, sigma.getDimensions());
  Object.assign(context, { lineWidth: 3, lineJoin: "round", strokeStyle: INK[scheme].paper, fillStyle: INK[scheme].text });
  for (const one of found) {
    context.strokeText(one.text, one.left, one.top + LINE / 2);
    context.fillText(one.text, one.left, one.top + LINE / 2);
  }
  // For who looks at the picture without eyes: what is written where.
  sigma.getContainer().dataset.names = JSON.stringify(found);
  return found;
}

interface Now { drawn: Drawn; focus: string | null; scheme: "light" | "dark" }

/** The place of a node among what the chosen one has edges with, the strongest first; -1 if it has none. */
function near(id: string, { drawn, focus }: Now): number {
  return (drawn.touching.get(focus ?? "") ?? []).findIndex((edge) => other(edge, focus ?? "") === id);
}

function nodeLook(id: string, data: Record<string, unknown>, now: Now) {
  if (now.focus === null || !now.drawn.byId.has(now.focus)) return data;
  if (id === now.focus) return { ...data, highlighted: false, forceLabel: true, zIndex: 3, size: 1.5 * (data.size as number) + 2 };
  const place = near(id, now);
  if (place >= 0) return { ...data, forceLabel: place < NAMED, label: place < NAMED ? data.label : null, zIndex: 2 };
  return { ...data, color: INK[now.scheme].edge, label: null, zIndex: 0 };
}

function edgeLook(data: Record<string, unknown>, now: Now) {
  if (now.focus === null || !now.drawn.byId.has(now.focus)) return data;
  const own = data.ends as [string, string];
  return own.includes(now.focus) ? { ...data, color: INK[now.scheme].near, size: 1.5 * (data.size as number) + 0.5, zIndex: 2 } : { ...data, color: INK[now.scheme].faint, zIndex: 0 };
}

function fill(sigma: Sigma, drawn: Drawn, scheme: "light" | "dark"): void {
  const graph = new Graph({ multi: true, type: "directed" });
  const [least, most] = drawn.header.detail === "latents" ? [1.6, 6] : [3, 20];
  for (const node of drawn.nodes) graph.addNode(node.id, { x: node.x, y: node.y, size: least + (most - least) * node.size, color: COLOURS[scheme][node.colour], label: node.words.length ? node.words.slice(0, 3).join(" ") : node.name });
  const latents = drawn.header.detail === "latents";
  const heaviest = Math.max(1e-9, ...drawn.edges.slice(0, 1).map((edge) => edge.weight));
  // The strongest last, on top.
  for (const edge of [...drawn.edges].reverse()) {
    const share = edge.weight / heaviest;
    graph.addDirectedEdge(edge.source, edge.target, { ends: [edge.source, edge.target], size: 0.4 + (latents ? 1.2 : 2.6) * share, color: faded(INK[scheme].edge, INK[scheme].paper, latents ? 0.2 + 0.8 * share ** 2 : 0.35 + 0.65 * share) });
  }
  sigma.setGraph(graph);
}

/** So much of an ink on the paper: opaque, as many faint lines over each other would add up to a blot. */
function faded(ink: string, paper: string, share: number): string {
  const channel = (colour: string, at: number) => parseInt(colour.slice(1 + 2 * at, 3 + 2 * at), 16);
  return "#" + [0, 1, 2].map((at) => Math.round(channel(paper, at) + Math.min(1, share) * (channel(ink, at) - channel(paper, at))).toString(16).padStart(2, "0")).join("");
}

function boxOf(sigma: Sigma): Box {
  const { width, height } = sigma.getDimensions();
  const [a, b] = [sigma.viewportToGraph({ x: 0, y: height }), sigma.viewportToGraph({ x: width, y: 0 })];
  const spare = 0.05 * Math.max(b.x - a.x, b.y - a.y);
  return [a.x - spare, a.y - spare, b.x + spare, b.y + spare];
}

/** Where a key leads: up and down along the strongest edge, left and right among what the last node has edges with. */
function nextOf(key: string, drawn: Drawn, focus: string | null, from: string | null): { id: string; from: string | null } | null {
  const here = focus === null ? undefined : drawn.byId.get(focus);
  if (!here || key === "Home") {
    const largest = drawn.nodes.reduce<Drawn["nodes"][number] | null>((best, node) => (best === null || node.size > best.size ? node : best), null);
    return largest && { id: largest.id, from: null };
  }
  const ends = (edges: DrawnEdge[], id: string) => [...new Set(edges.map((edge) => other(edge, id)))];
  const own = drawn.touching.get(here.id) ?? [];
  if (key === "ArrowUp" || key === "ArrowDown") {
    const directed = drawn.header.detail === "latents";
    const that = own.filter((edge) => (directed ? (key === "ArrowUp" ? edge.source === here.id : edge.target === here.id) : (drawn.byId.get(other(edge, here.id))!.y > here.y) === (key === "ArrowUp")));
    const first = ends(that, here.id)[0];
    return first === undefined ? null : { id: first, from: here.id };
  }
  const around = from !== null && drawn.byId.has(from) ? ends(drawn.touching.get(from) ?? [], from) : ends(own, here.id);
  const [at, step] = [around.indexOf(here.id), key === "ArrowRight" ? 1 : -1];
  if (!around.length) return null;
  return { id: around[(at + step + around.length) % around.length]!, from: from ?? here.id };
}
