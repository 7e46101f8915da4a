/** What is drawn of a graph, as the view asks for it: nodes and edges out of columns. */
import { type Columns, getColumns } from "../api";

export interface GraphHeader {
  detail: "communities" | "latents";
  counts: Record<string, number>;
  measure: string;
  /** From where on edges are in the graph at all, the largest one, and from where on they are drawn. */
  threshold: number;
  largest: number;
  tau: number;
  /** Thresholds above its own at which a page without a server has the graph. */
  steps: number[];
  dictionaries: string[];
  names: Record<string, string[]>;
  /** Of the community that is shown alone: left, bottom, right, top. */
  tile: [number, number, number, number] | null;
}

export interface DrawnNode {
  id: string;
  /** What it is called: DICTIONARY/LATENT, or "community 3". */
  name: string;
  words: string[];
  x: number;
  y: number;
  /** 0 to 1. */
  size: number;
  colour: number;
  members: number;
  community: number;
}

export interface DrawnEdge {
  source: string;
  target: string;
  weight: number;
  bundled: number;
}

export interface Drawn {
  header: GraphHeader;
  nodes: DrawnNode[];
  byId: Map<string, DrawnNode>;
  edges: DrawnEdge[];
  /** Edges of each node, the strongest first. */
  touching: Map<string, DrawnEdge[]>;
}

export interface GraphQuery {
  measure: string;
  tau?: number;
  community?: number;
  viewport?: string;
  detail?: "auto" | "communities" | "latents";
}

export async function getGraph(id: string, query: GraphQuery, signal: AbortSignal): Promise<Drawn> {
  return drawnOf(await getColumns<GraphHeader, "/api/v1/relations/{part}/graph">("/api/v1/relations/{part}/graph", { part: id }, query, signal));
}

function drawnOf({ header, columns }: Columns<GraphHeader>): Drawn {
  const latents = header.detail === "latents";
  const of = (name: string, at: number) => columns[name]?.[at] ?? 0;
  const nodes = Array.from(columns.ids ?? [], (number, at): DrawnNode => ({
    id: String(number),
    name: latents ? `${header.dictionaries[of("dictionary", at)]}/${of("latent", at)}` : `community ${number}`,
    words: header.names[String(number)] ?? [],
    x: of("x", at), y: of("y", at), size: of("size", at) / 255, colour: of("colour", at), members: of("members", at),
    community: latents ? of("community", at) : number,
  }));
  const edges = Array.from(columns.weight ?? [], (weight, at): DrawnEdge => ({ source: String(of("edges", 2 * at)), target: String(of("edges", 2 * at + 1)), weight, bundled: of("bundled", at) }));
  const touching = new Map<string, DrawnEdge[]>(nodes.map((node) => [node.id, []]));
  for (const edge of edges) for (const end of new Set([edge.source, edge.target])) touching.get(end)?.push(edge);
  return { header, nodes, byId: new Map(nodes.map((node) => [node.id, node])), edges, touching };
}

export const other = (edge: DrawnEdge, id: string) => (edge.source === id ? edge.target : edge.source);
