/**
 * All of the page in one module: for a file that holds its data, and for a cell of a notebook.
 *
 * Written into an exported page, it begins by itself where it finds that page's data. Given to anywidget as text, it is a
 * widget: a view of the run whose questions the kernel answers, or the answers that came along. Nothing is fetched.
 */
import { StrictMode, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { type Given, answered, keyOf, refused, unpacked } from "./answers";
import { get } from "./api";
import { App, Place } from "./app";
import { useAnswer } from "./parts/states";
import { placeOf, usePlace } from "./route";
import css from "./style.css?inline";
import { TAB, around, standIn } from "./surroundings";

/* A file. */

interface Contents {
  /** Which part of the data has an answer; of a file, all are in the first. */
  parts: Record<string, number>;
  count: number;
}

const opened = new Map<number, Promise<Record<string, Given>>>();

/** A part of the data: inside the page, or in a script beside it, which no page of the web may read. */
function part(number: number): Promise<Record<string, Given>> {
  const known = opened.get(number);
  if (known) return known;
  const found = (async () => {
    const here = document.getElementById(`gossamer-part-${number}`)?.textContent;
    return (await unpacked(here ?? (await beside(number)))) as Record<string, Given>;
  })();
  opened.set(number, found);
  return found;
}

function beside(number: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${number}.js`;
    script.onload = () => resolve((globalThis as unknown as { gossamerParts: Record<number, string> }).gossamerParts[number] ?? "");
    script.onerror = () => reject(new Error(`data/${number}.js is missing: the page needs the folder that was written with it`));
    document.head.append(script);
  });
}

function begin(contents: Contents): void {
  standIn({
    ...TAB,
    served: false,
    ask: async (path, init) => {
      const key = keyOf(path, init), number = contents.parts[key];
      const given = number === undefined ? undefined : (await part(number))[key];
      return given ? answered(given) : refused("This page was exported: it holds what was found, and neither a model nor the run's files. Open the run with gossamer view for this.");
    },
  });
  createRoot(document.getElementById("root")!).render(<StrictMode><App /></StrictMode>);
}

const contents = document.getElementById("gossamer-contents")?.textContent;
if (contents) begin(JSON.parse(contents) as Contents);

/* A cell. */

interface Model {
  get: (name: string) => unknown;
  set: (name: string, value: unknown) => void;
  save_changes: () => void;
  send: (content: unknown) => void;
  on: (event: string, does: (...values: never[]) => void) => void;
  off: (event: string, does?: (...values: never[]) => void) => void;
}

interface Reply {
  id: number;
  heard?: true;
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

const PATIENCE = 60_000;
let asked = 0;

/** Questions to the kernel, by messages: each is answered once, and says first that it was heard. */
function kernel(model: Model): (path: string, init: RequestInit) => Promise<Response> {
  const waiting = new Map<number, { heard: () => void; answer: (response: Response) => void }>();
  model.on("msg:custom", ((reply: Reply, buffers: DataView[]) => {
    const one = waiting.get(reply.id);
    if (!one) return;
    if (reply.heard) return one.heard();
    waiting.delete(reply.id);
    one.answer(buffers?.[0] ? new Response(buffers[0] as unknown as BodyInit, { status: reply.status, headers: reply.headers }) : answered({ status: reply.status, body: reply.body }));
  }) as never);
  return (path, init) => new Promise((resolve, reject) => {
    const id = (asked += 1);
    const timer = setTimeout(() => { waiting.delete(id); resolve(refused("The kernel does not answer: it is busy with another cell, or this notebook is shown without one.", 503)); }, PATIENCE);
    waiting.set(id, { heard: () => clearTimeout(timer), answer: (response) => { clearTimeout(timer); resolve(response); } });
    init.signal?.addEventListener("abort", () => { clearTimeout(timer); waiting.delete(id); reject(init.signal?.reason); });
    model.send({ id, method: init.method ?? "GET", path, body: typeof init.body === "string" ? init.body : null });
  });
}

const back: string[] = [];

function cell(model: Model, box: HTMLElement): void {
  const live = kernel(model);
  const place = () => String(model.get("place"));
  standIn({
    ask: async (path, init) => {
      // What may change is asked of the kernel, whatever came along.
      const given = init.method === "PUT" ? undefined : (model.get("answers") as Record<string, Given>)[keyOf(path, init)];
      if (given) return answered(given);
      return model.get("live") ? live(path, init) : refused("This widget shows results alone: make it from a run's folder, or from a circuit that was just found, to ask its model.");
    },
    hash: place,
    go: (hash, step) => {
      if (step) back.push(place());
      model.set("place", hash);
      model.save_changes();
    },
    subscribe: (changed) => {
      model.on("change:place", changed as never);
      return () => model.off("change:place", changed as never);
    },
    keys: () => box,
    shared: false,
    served: model.get("live") === true,
    marked: (marks) => {
      model.set("marks", marks);
      model.save_changes();
    },
  });
}

function Cell() {
  const run = useAnswer("run", (signal) => get("/api/v1/run", {}, undefined, signal));
  const { path } = usePlace();
  const place = useSyncExternalStore(around().subscribe, around().hash);
  return (
    <main id="main">
      {back.length > 0 && <p className="toolbar"><button type="button" onClick={() => { const before = back.pop(); if (before !== undefined) around().go(before, false); }}>← Back</button> <span className="muted">{placeOf(place).path.slice(0, 2).join(" · ")}</span></p>}
      <Place path={path} run={run} />
    </main>
  );
}

/** The style sheet of the page for a cell: it rules inside alone, and goes by the width of the cell. */
function sheet(): CSSStyleSheet {
  const inside = css.replaceAll(":root", ":host").replace(/(^|[}\s])html\s*\{[^}]*\}/, "$1").replace(/(^|[}\s])body\s*\{/, "$1.cell{").replace(/@media\s*\((max-width:|width\s*<=)/g, "@container ($1");
  const made = new CSSStyleSheet();
  made.replaceSync(`${inside} :host { display: block; container-type: inline-size; } .cell main { padding: .6rem .8rem 1rem; }`);
  return made;
}

/** What the notebook looks like: JupyterLab and VS Code say it, others by their own colour scheme. */
function scheme(el: HTMLElement): "light" | "dark" {
  const said = document.body.dataset.jpThemeLight;
  if (said !== undefined) return said === "false" ? "dark" : "light";
  if (/vscode-(dark|high-contrast)/.test(document.body.className) || document.documentElement.classList.contains("dark")) return "dark";
  return getComputedStyle(el).colorScheme === "dark" ? "dark" : "light";
}

export function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const host = document.createElement("div");
  host.style.colorScheme = scheme(el);
  // Keys that a view knows are no shortcuts of the notebook meanwhile.
  host.dataset.lmSuppressShortcuts = "true";
  el.append(host);
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [sheet()];
  const box = document.createElement("div");
  box.className = "cell";
  root.append(box);
  cell(model, box);
  box.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href^='#/']");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    around().go(link.getAttribute("href")!, true);
  });
  host.addEventListener("keydown", (event) => event.stopPropagation());
  const drawn = createRoot(box);
  drawn.render(<Cell />);
  return () => {
    drawn.unmount();
    host.remove();
  };
}

export default { render };
