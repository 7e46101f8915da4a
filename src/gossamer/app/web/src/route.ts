/** Where in the page the reader is: everything after #, so that an address can be sent to a colleague. */
import { useSyncExternalStore } from "react";
import { around } from "./surroundings";

export interface Place {
  /** Parts of the path, as ["circuit", "circuit", "evaluation"]. */
  path: string[];
  query: URLSearchParams;
}

export function placeOf(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray % typed by hand
  }
}

export function hashOf(path: string[], query?: URLSearchParams): string {
  const asked = query?.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${asked ? `?${asked}` : ""}`;
}

export function usePlace(): Place {
  return placeOf(useSyncExternalStore(around().subscribe, around().hash));
}

/** Go to another view. */
export function go(path: string[], query?: URLSearchParams): void {
  around().go(hashOf(path, query), true);
}

/** Change what follows ? without a step for the Back button. */
export function replaceQuery(path: string[], query: URLSearchParams): void {
  around().go(hashOf(path, query), false);
}
