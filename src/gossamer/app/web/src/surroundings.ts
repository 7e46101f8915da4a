/** What is around the views: a tab with a server, a file that holds its data, or a cell of a notebook. */
import type { Marks } from "./circuit/marks";

export interface Surroundings {
  /** Answers a question, as `fetch` does. */
  ask: (path: string, init: RequestInit) => Promise<Response>;
  /** The reader's place: what follows # in an address. */
  hash: () => string;
  /** Go to another place; `step`: the way back leads here. */
  go: (hash: string, step: boolean) => void;
  subscribe: (changed: () => void) => () => void;
  /** Where keys are heard: all of the page, or no more than the cell. */
  keys: () => EventTarget;
  /** Whether addresses can be sent to others. */
  shared: boolean;
  /** Whether a process answers, which can write files. */
  served: boolean;
  /** Is told what a reader marks. */
  marked?: (marks: Marks) => void;
}

const KEY = "gossamer-token";

/** A tab of its own: the place is in its address, and its server answers. */
export const TAB: Surroundings = {
  ask: (path, init) => fetch(path, { ...init, headers: { "X-Gossamer-Token": sessionStorage.getItem(KEY) ?? "", "Content-Type": "application/json" } }),
  hash: () => location.hash,
  go: (hash, step) => {
    if (step) location.hash = hash;
    else history.replaceState(null, "", hash);
  },
  subscribe: (changed) => {
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  },
  keys: () => window,
  shared: true,
  served: true,
};

/** The token comes in the fragment of the printed address; it is kept for reloads of this tab and taken off the address. */
export function takeToken(): void {
  const found = /(?:^#|&)token=([A-Za-z0-9_-]+)&?/.exec(location.hash);
  if (!found?.[1]) return;
  sessionStorage.setItem(KEY, found[1]);
  history.replaceState(null, "", location.pathname + "#" + location.hash.slice(1).replace(/(^|&)token=[A-Za-z0-9_-]+&?/, ""));
}

let current = TAB;

export const around = (): Surroundings => current;

/** Say what is around, before anything is drawn. */
export function standIn(other: Surroundings): void {
  current = other;
}
