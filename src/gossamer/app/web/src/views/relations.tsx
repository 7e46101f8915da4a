/** Relations between latents: the graph with levels of detail, and what was found in it. */
import { Suspense, lazy } from "react";
import { type Shapes, get } from "../api";
import { count } from "../format";
import { Answer, Empty, Waiting, useAnswer } from "../parts/states";
import { Tools } from "../parts/tools";
import { PairView } from "../relations/pair";
import { hashOf } from "../route";

const GraphTab = lazy(() => import("../relations/graph"));
const RelationParts = lazy(() => import("../relations/parts"));

/** Name, title and sections of the report's component. */
const TABS: [string, string, string[]][] = [
  ["graph", "Graph", []], ["lifecycle", "Passed on, new, gone", ["lifecycle", "sweep"]], ["gates", "Gates", ["gates"]], ["communities", "Communities", ["communities"]],
  ["prompt", "A prompt's graph", ["prompts"]], ["causal", "Causal check", ["effects"]],
];

export function RelationsView({ id, tab }: { id: string; tab: string }) {
  const found = useAnswer(`relations ${id}`, (signal) => get("/api/v1/relations/{part}", { part: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the relations; without a page's file beside them communities are found first …">{(page) => <Shown page={page} tab={tab} />}</Answer>;
}

function Shown({ page, tab }: { page: Shapes["RelationsPage"]; tab: string }) {
  const shown = TABS.find(([name]) => name === tab);
  return (
    <>
      <h1>Which features belong together <span>in {page.title}</span></h1>
      <p className="lead">{count(page.dictionaries.length, "dictionary", "dictionaries")} ({page.dictionaries.join(", ")}), {count(page.tokens, "token")}.</p>
      <nav className="tabs" aria-label="Parts of the relations">{TABS.map(([name, title]) => <a key={name} href={hashOf(["relations", page.id, ...(name === "graph" ? [] : [name])])} aria-current={tab === name ? "page" : undefined}>{title}</a>)}</nav>
      <Suspense fallback={<Waiting>Loading the view …</Waiting>}>
        {tab === "pair" ? <PairView id={page.id} folder={page.folder} latents={page.latents} />
          : tab === "graph" ? (page.measures.length ? <GraphTab page={page} /> : <Empty>There is no graph: {page.graph}</Empty>)
          : shown && <><RelationParts key={tab} page={page} only={shown[2]} /><Tools name={page.id} data={page.data} python={python(page)} /></>}
      </Suspense>
    </>
  );
}

function python(page: Shapes["RelationsPage"]): string {
  return page.file.endsWith(".json")
    ? `from gossamer.relations import RelationsData\n\nprint(RelationsData.load(${JSON.stringify(page.file)}))`
    : `from gossamer.relations import folder_data\n\nprint(folder_data(${JSON.stringify(page.folder)}))`;
}
