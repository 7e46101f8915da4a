/** Answers that a page brings along: what the routes said when it was written, by what was asked. */

export interface Given {
  status: number;
  body?: unknown;
  /** Base64 of what is no JSON. */
  raw?: string;
}

/** A question as the table of answers has it: path, query and body, in an order that does not depend on who asks. */
export function keyOf(path: string, init: RequestInit): string {
  const [before = "", query = ""] = path.split("?");
  const asked = [...new URLSearchParams(query)].map(([name, value]) => `${name}=${value}`).sort();
  return decodeURIComponent(before) + (asked.length ? `?${asked.join("&")}` : "") + (typeof init.body === "string" ? ` ${ordered(init.body)}` : "");
}

/** JSON with its names in order. */
function ordered(body: string): string {
  return JSON.stringify(JSON.parse(body), (_, value: unknown) => (typeof value === "object" && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value));
}

export function answered({ status, body, raw }: Given): Response {
  if (raw !== undefined) return new Response(bytesOf(raw), { status });
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

export function refused(detail: string, status = 501): Response {
  return answered({ status, body: { detail } });
}

/** Base64 of gzip, as Python writes it. */
export async function unpacked(text: string): Promise<unknown> {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
}
