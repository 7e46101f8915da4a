/** The views: what each is called, which files of a run it shows, and how its address is read. */
import { type ReactNode, lazy } from "react";
import type { Shapes } from "../api";
import { AttributionView, TraceView } from "./attention";
import { Empty } from "../parts/states";
import { around } from "../surroundings";
import { STUDIES, StudyView } from "./study";
import { CircuitView } from "./circuit";
import { ExploreView } from "./explore";
import { LatentView } from "./latent";
import { PromptView } from "./prompt";
import { RelationsView } from "./relations";

// Views that not every run has are loaded when they are opened.
const AdversarialView = lazy(() => import("./adversarial"));
const ExplanationsView = lazy(() => import("./explanations"));
const CompareView = lazy(() => import("./compare"));
const DictionaryView = lazy(() => import("./dictionary"));
const GameView = lazy(() => import("./game"));
const JobsView = lazy(() => import("./jobs"));
const SteerView = lazy(() => import("./steer"));
const SearchView = lazy(() => import("./search"));
const SteeringView = lazy(() => import("./steering"));

type Part = Shapes["PartFacts"];

export interface View {
  /** First part of the address behind #/. */
  path: string;
  /** What the menu calls it. */
  name: string;
  /** Kinds of files that it shows, one at a time; none for a view that the menu reaches from the run as a whole. */
  kinds: string[];
  /** Where the menu leads for the run as a whole; absent where a view is reached through files or other views alone. */
  start?: (parts: Part[]) => string[] | null;
  show: (path: string[]) => ReactNode;
}

/** The first file of a kind that is whole. */
const first = (parts: Part[], kind: string) => parts.find((part) => part.kind === kind && part.state !== "damaged" && part.state !== "newer")?.id;

export const VIEWS: View[] = [
  { path: "circuit", name: "Circuits", kinds: ["circuit"], show: ([id, tab]) => id && <CircuitView id={id} tab={tab ?? "map"} /> },
  { path: "dictionary", name: "Dictionaries", kinds: ["dictionaries"], show: ([id]) => id && <DictionaryView id={id} /> },
  { path: "prompt", name: "Your text", kinds: [], start: (parts) => { const id = first(parts, "circuit") ?? first(parts, "dictionaries"); return id ? [id] : null; }, show: ([id]) => id && <PromptView id={id} /> },
  { path: "steering", name: "Steering", kinds: ["steering sweep"], show: ([id]) => id && <SteeringView id={id} /> },
  { path: "steer", name: "Steer", kinds: [], start: (parts) => { const id = first(parts, "circuit") ?? first(parts, "dictionaries"); return id ? [id] : null; }, show: ([id]) => id && <SteerView id={id} /> },
  { path: "adversarial", name: "Adversarial", kinds: ["adversarial prompts"], show: ([id]) => id && <AdversarialView id={id} /> },
  { path: "explanations", name: "Explanations", kinds: ["explanations"], show: ([id, feature]) => id && <ExplanationsView id={id} feature={feature} /> },
  { path: "game", name: "Game", kinds: [], start: (parts) => { const id = first(parts, "feature store"); return id ? [id] : null; }, show: ([id]) => id && (around().served ? <GameView id={id} /> : <Empty>The game needs a server: <code>gossamer view</code> on the run.</Empty>) },
  { path: "relations", name: "Relations", kinds: ["relations", "relation"], show: ([id, tab]) => id && <RelationsView id={id} tab={tab ?? "graph"} /> },
  { path: "jobs", name: "Jobs", kinds: [], start: (parts) => (parts.some((part) => ["circuit", "dictionaries", "feature store"].includes(part.kind)) ? [] : null), show: () => (around().served ? <JobsView /> : <Empty>Jobs need a server: <code>gossamer view</code> on the run.</Empty>) },
  { path: "attention", name: "Attention", kinds: ["attribution"], show: ([id]) => id && <AttributionView id={id} /> },
  { path: "explore", name: "Text taken apart", kinds: [], start: (parts) => { const id = first(parts, "circuit") ?? first(parts, "dictionaries"); return id ? [id] : null; }, show: ([id]) => id && <ExploreView id={id} /> },
  { path: "trace", name: "Traces", kinds: ["trace"], show: ([id]) => id && <TraceView id={id} /> },
  { path: "study", name: "Studies", kinds: STUDIES, show: ([id]) => id && <StudyView id={id} /> },
  { path: "search", name: "Search", kinds: [], start: () => [], show: () => <SearchView /> },
  { path: "compare", name: "Compare", kinds: [], start: (parts) => (parts.filter((part) => part.kind === "circuit").length > 1 ? ["circuits"] : parts.some((part) => part.kind === "dictionaries" || part.kind === "circuit") ? ["dictionaries"] : null), show: ([what]) => <CompareView what={what ?? "circuits"} /> },
  { path: "latent", name: "Latent", kinds: [], show: ([id, feature]) => id && feature && <LatentView id={id} feature={feature} /> },
];

/** The view of one file, if there is one. */
export function viewOf(part: Part): View | undefined {
  return part.state === "damaged" || part.state === "newer" ? undefined : VIEWS.find((view) => view.kinds.includes(part.kind));
}
