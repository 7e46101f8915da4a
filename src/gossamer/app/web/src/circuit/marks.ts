/** What a reader makes of a circuit: pins, groups and labels, with undo, in the address and in the run's folder. */
import { useCallback, useEffect, useMemo, useState } from "react";
import type { Shapes } from "../api";
import { replaceQuery } from "../route";
import { around } from "../surroundings";

export interface Marks {
  pinned: string[];
  groups: Shapes["Group"][];
  labels: Record<string, string>;
}

export const NONE: Marks = { pinned: [], groups: [], labels: {} };

interface Steps {
  past: Marks[];
  now: Marks;
  future: Marks[];
}

export interface MarksOf {
  marks: Marks;
  change: (next: (now: Marks) => Marks) => void;
  undo: (() => void) | null;
  redo: (() => void) | null;
  /** Whether the address held marks of another circuit. */
  foreign: boolean;
}

/** Marks of a circuit, begun from the address. Nodes stand there by their place in the map, which a digest secures. */
export function useMarks(page: Shapes["CircuitPage"], path: string[], query: URLSearchParams): MarksOf {
  const names = useMemo(() => page.map.nodes.map((node) => node.id), [page]);
  const digest = (page.digest ?? "").slice(0, 12);
  const foreign = query.has("of") && query.get("of") !== digest;
  const [steps, setSteps] = useState<Steps>(() => ({ past: [], now: foreign ? NONE : read(query, names), future: [] }));
  const change = useCallback((next: (now: Marks) => Marks) => setSteps(({ past, now }) => ({ past: [...past.slice(-199), now], now: next(now), future: [] })), []);
  const undo = useCallback(() => setSteps(({ past, now, future }) => (past.length ? { past: past.slice(0, -1), now: past.at(-1)!, future: [now, ...future] } : { past, now, future })), []);
  const redo = useCallback(() => setSteps(({ past, now, future }) => (future.length ? { past: [...past, now], now: future[0]!, future: future.slice(1) } : { past, now, future })), []);
  const at = path.join("/");
  useEffect(() => around().marked?.(steps.now), [steps.now]);
  useEffect(() => {
    if (steps.past.length || steps.future.length || !foreign) replaceQuery(path, written(steps.now, names, digest));
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [steps, names, digest, at]);
  return { marks: steps.now, change, undo: steps.past.length ? undo : null, redo: steps.future.length ? redo : null, foreign };
}

function written(marks: Marks, names: string[], digest: string): URLSearchParams {
  const place = new Map(names.map((name, index) => [name, index]));
  const places = (nodes: string[]) => nodes.flatMap((one) => place.get(one) ?? []).join(".");
  const query = new URLSearchParams();
  if (marks.pinned.length) query.set("pin", places(marks.pinned));
  for (const group of marks.groups) query.append("group", `${places(group.nodes)}:${group.name}`);
  for (const [name, label] of Object.entries(marks.labels)) query.append("label", `${places([name])}:${label}`);
  if (query.size) query.set("of", digest);
  return query;
}

function read(query: URLSearchParams, names: string[]): Marks {
  const nodes = (text: string) => text.split(".").flatMap((one) => (/^\d+$/.test(one) ? (names[Number(one)] ?? []) : []));
  const parts = (text: string): [string[], string] => [nodes(text.split(":", 1)[0] ?? ""), text.slice(text.indexOf(":") + 1)];
  const labels = query.getAll("label").map(parts).flatMap(([found, label]) => (found[0] ? [[found[0], label] as const] : []));
  const groups = query.getAll("group").map(parts).map(([found, name]) => ({ name, nodes: found }));
  return { pinned: [...new Set(nodes(query.get("pin") ?? ""))], groups: groups.filter((one) => one.nodes.length), labels: Object.fromEntries(labels) };
}

export function pin(name: string) {
  return (now: Marks): Marks => ({ ...now, pinned: now.pinned.includes(name) ? now.pinned.filter((one) => one !== name) : [...now.pinned, name] });
}

export function label(name: string, said: string) {
  return (now: Marks): Marks => {
    const { [name]: _, ...others } = now.labels;
    return { ...now, labels: said.trim() ? { ...others, [name]: said.trim() } : others };
  };
}

/** Put nodes into the group of that name; no node is in two groups, and a group without nodes is none. */
export function group(names: string[], title: string) {
  return (now: Marks): Marks => {
    const left = now.groups.map((one) => ({ ...one, nodes: one.nodes.filter((node) => !names.includes(node)) }));
    const known = left.find((one) => one.name === title);
    const groups = !title ? left : known ? left.map((one) => (one === known ? { ...one, nodes: [...one.nodes, ...names] } : one)) : [...left, { name: title, nodes: names }];
    return { ...now, groups: groups.filter((one) => one.nodes.length) };
  };
}
