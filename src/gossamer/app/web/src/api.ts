/** Questions to the server. Types come from its schema, so that a route that changes breaks this build. */
import type { components, paths } from "./schema";
import { around } from "./surroundings";

export type Shapes = components["schemas"];
type Answered<P, M extends "get" | "post" | "put"> = P extends { [K in M]: { responses: { 200: { content: { "application/json": infer T } } } } } ? T : never;
type Asked<P, M extends "post" | "put"> = P extends { [K in M]: { requestBody: { content: { "application/json": infer T } } } } ? T : never;
type Query<P> = P extends { get: { parameters: { query?: infer Q } } } ? Q : never;

/** Why a question was not answered, in the server's words. */
export class Refusal extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

async function request(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await around().ask(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refusal("The server does not answer: it was stopped, or is busy loading. Start gossamer view again if it was stopped.", 0);
  }
  if (answer.ok) return answer;
  throw new Refusal(reasonOf(await answer.json().catch(() => null)) ?? `The server answered ${answer.status}.`, answer.status);
}

async function ask(path: string, init: RequestInit): Promise<unknown> {
  return (await request(path, init)).json().catch(() => null);
}

function reasonOf(said: unknown): string | null {
  if (typeof said !== "object" || said === null || !("detail" in said)) return null;
  if (typeof said.detail === "string") return said.detail;
  // FastAPI's own list of what is wrong with a request.
  return Array.isArray(said.detail) ? said.detail.map((one: { loc?: unknown[]; msg?: string }) => `${(one.loc ?? []).slice(1).join(".")}: ${one.msg ?? ""}`).join("; ") : null;
}

function address(path: string, parts: Record<string, string>, query: object = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(parts[name] ?? ""));
  const asked = Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]): [string, string] => [name, String(value)]);
  return asked.length ? `${filled}?${new URLSearchParams(asked)}` : filled;
}

export function get<P extends keyof paths>(path: P, parts: Record<string, string> = {}, query?: Query<paths[P]>, signal?: AbortSignal): Promise<Answered<paths[P], "get">> {
  return ask(address(path, parts, query ?? {}), { signal }) as Promise<Answered<paths[P], "get">>;
}

export interface Written {
  name: string;
  content: Blob;
  type: string;
}

/** A file that the server writes, under the name that it gives it. */
export async function file<P extends keyof paths>(path: P, parts: Record<string, string>, query?: Query<paths[P]>): Promise<Written> {
  const answer = await request(address(path, parts, query ?? {}), {});
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "export";
  return { name, content: await answer.blob(), type: answer.headers.get("content-type") ?? "" };
}

export function post<P extends keyof paths>(path: P, parts: Record<string, string>, body: Asked<paths[P], "post">, signal?: AbortSignal): Promise<Answered<paths[P], "post">> {
  return ask(address(path, parts), { method: "POST", body: JSON.stringify(body), signal }) as Promise<Answered<paths[P], "post">>;
}

export function put<P extends keyof paths>(path: P, parts: Record<string, string>, body: Asked<paths[P], "put">): Promise<Answered<paths[P], "put">> {
  return ask(address(path, parts), { method: "PUT", body: JSON.stringify(body) }) as Promise<Answered<paths[P], "put">>;
}

/** An answer in columns (gossamer.app.columns): its header, and its numbers by name. */
export interface Columns<H> {
  header: H;
  columns: Record<string, Numbers>;
}
export type Numbers = Uint8Array | Uint16Array | Uint32Array | Float32Array;

export async function getColumns<H, P extends keyof paths>(path: P, parts: Record<string, string>, query: Query<paths[P]>, signal?: AbortSignal): Promise<Columns<H>> {
  return columnsOf<H>(await (await request(address(path, parts, query ?? {}), { signal })).arrayBuffer());
}

function columnsOf<H>(raw: ArrayBuffer): Columns<H> {
  const length = new DataView(raw).getUint32(0, true);
  const { columns: listed, ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, length))) as { columns: { name: string; type: string; length: number }[] };
  const columns: Record<string, Numbers> = {};
  let place = 4 + length;
  for (const one of listed) {
    const kind = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float16: Uint16Array, float32: Float32Array }[one.type]!;
    const found = new kind(raw, place, one.length);
    columns[one.name] = one.type === "float16" ? Float32Array.from(found, half) : found;
    place += Math.ceil((one.length * kind.BYTES_PER_ELEMENT) / 4) * 4;
  }
  return { header: header as H, columns };
}

/** The number that 16 bits stand for; browsers have no type for it yet. */
function half(bits: number): number {
  const [sign, power, rest] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (power === 0) return sign * rest * 2 ** -24;
  return power === 31 ? (rest ? NaN : sign * Infinity) : sign * (1 + rest / 1024) * 2 ** (power - 15);
}

export type JobEvent = Shapes["JobPage"]["events"][number];

/** Begin a job, or listen to one, and read what it says as it comes; closing (by the signal, or with the tab) is noticed by the server. */
export async function listen(path: string, body: unknown, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<void> {
  const answer = await request(path, { method: body === undefined ? "GET" : "POST", body: body === undefined ? undefined : JSON.stringify(body), signal });
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue;
      const event = JSON.parse(data.slice(6)) as JobEvent;
      ended ||= event.event === "done" || event.event === "failed" || event.event === "cancelled";
      onEvent(event);
    }
  }
  if (!ended) throw new Refusal("The server stopped before the job ended.", 0);
}
