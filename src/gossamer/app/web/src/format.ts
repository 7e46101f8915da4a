/** How numbers are written; nothing is computed here. */
export { number, visible } from "../../../report/components/text.js";
import { number } from "../../../report/components/text.js";
import type { Shapes } from "./api";

export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : `${number(100 * value)} %`;
}

export function interval(one: Shapes["IntervalShape"]): string {
  return `${number(one.value)} [${number(one.low)}, ${number(one.high)}]`;
}

export function bytes(value: number): string {
  return value < 1e3 ? `${value} B` : value < 1e6 ? `${number(value / 1e3)} kB` : `${number(value / 1e6)} MB`;
}

export function count(value: number, one: string, several = `${one}s`): string {
  return `${value.toLocaleString("en-US")} ${value === 1 ? one : several}`;
}

export function when(iso: string): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
