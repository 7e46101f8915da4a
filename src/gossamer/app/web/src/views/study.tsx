/** A study as its report has it: what was found in words, pictures and tables. */
import { Fragment } from "react";
import { type Shapes, get } from "../api";
import { Answer, Empty, useAnswer } from "../parts/states";
import { Pictures, Tables } from "../parts/study";
import { Tools } from "../parts/tools";
import { hashOf } from "../route";

type Page = Shapes["StudyPage"];

/** By kind: what it is called, how its numbers are to be read, what makes it, and the Python that reads it. */
const KINDS: Record<string, { title: string; note: string; command: string; imports: string[]; load: (file: string) => string; words?: [string, string] }> = {
  "IOI study": {
    title: "Who gets what: indirect objects", command: "gossamer ioi",
    note: "Choices are made on half of the templates and reported on the other half; intervals of 95 % draw templates first, then their prompts.",
    imports: ["from gossamer.attention.ioi import IOIStudy", "from gossamer.report.ioi import sections, sentences"], load: (file) => `IOIStudy.load(Path(${file}).parent)`,
  },
  "study of relations": {
    title: "How features go on from layer to layer", command: "gossamer study-relations",
    note: "Gates are counted again, and latents ablated, on text on which nothing was chosen; chance is what shuffled documents and redrawn edges give.",
    imports: ["from gossamer.relations import RelationStudy", "from gossamer.report.relation_study import sections, sentences"], load: (file) => `RelationStudy.load(Path(${file}).parent)`,
  },
  "study of circuits": {
    title: "Circuits of several tasks", command: "gossamer study-circuits",
    note: "Found and tested in one way; numbers are of held-out prompts. The best baseline at a size is chosen on these very prompts: an upper bound on what a reader could have chosen. “Behind” counts by point value, and beyond the 95 % interval of the paired difference.",
    imports: ["from gossamer.circuits.task_study import TaskStudy", "from gossamer.report.task_study import sections, sentences"], load: (file) => `TaskStudy.load(Path(${file}).parent)`,
  },
  "study of encoders": {
    title: "Encoder or decoder: ways of coding", command: "gossamer pursuit",
    note: "One text for all. Under pursuit the encoder is discarded, so that decoders are compared at one L0, whatever they were trained at; values between measured L0s are linear. Single numbers of one text, without intervals.",
    imports: ["from gossamer.replacement.coding_study import load_study", "from gossamer.report.coding import sections, sentences"], load: (file) => `load_study(Path(${file}).parent)`,
  },
  "comparison of recipes": {
    title: "Ways to train dictionaries, compared", command: "gossamer compare-recipes",
    note: "Held-out text; intervals are Student's over seeds. Margins are over the baseline of the same seed at the same L0; a dash where its line does not reach.",
    imports: ["from gossamer.training.recipe_comparison import RecipeComparison", "from gossamer.report.recipe_comparison import sections, sentences"], load: (file) => `RecipeComparison.load(${file})`,
  },
  "adversarial prompts of several seeds": {
    title: "Prompts that break a task, over seeds", command: "gossamer adversarial --seeds",
    note: "Each seed has other words, prompts and searches. The circuit is ahead of an arm where both tests say so, each with p below .05.",
    imports: ["from gossamer.circuits.adversarial.seeds import FORMAT, SeedStudy", "from gossamer.report.adversarial import seed_sections, seed_sentences"], load: (file) => `SeedStudy(FORMAT.load(${file}).rows)`, words: ["seed_sentences", "seed_sections"],
  },
};

export const STUDIES = Object.keys(KINDS);

export function StudyView({ id }: { id: string }) {
  const found = useAnswer(`study ${id}`, (signal) => get("/api/v1/studies/{part}", { part: id }, undefined, signal));
  return <Answer of={found} waiting="Reading the study …">{(page) => <Shown id={id} page={page} />}</Answer>;
}

function Shown({ id, page }: { id: string; page: Page }) {
  const kind = KINDS[page.kind]!;
  return (
    <>
      <h1>{kind.title} <span>in {page.title}</span></h1>
      <p className="note">Parts that are done: {page.parts.join(", ") || "none"}. {kind.note}</p>
      {page.circuits.length > 0 && <p>Circuits: {page.circuits.map((one, index) => <Fragment key={one.circuit}>{index > 0 && ", "}<a href={hashOf(["circuit", one.circuit])}>{one.task}</a></Fragment>)}</p>}
      {page.sentences.length > 0 && <ul className="findings">{page.sentences.map((one) => <li key={one}>{one}</li>)}</ul>}
      {page.sentences.length + page.tables.length === 0 && <Empty>Nothing was measured yet: let <code>{kind.command}</code> go on.</Empty>}
      <div className="columns"><Pictures name={id} pictures={page.pictures} /></div>
      <Tables name={id} tables={page.tables} links={Object.fromEntries(page.circuits.map((one) => [one.task, hashOf(["circuit", one.circuit])]))} />
      <Tools name={id} data={page} python={python(kind, page.file)} />
    </>
  );
}

function python(kind: (typeof KINDS)[string], file: string): string {
  const [sentences, sections] = kind.words ?? ["sentences", "sections"];
  return `from pathlib import Path\n\n${kind.imports.join("\n")}\n\nstudy = ${kind.load(JSON.stringify(file))}\nprint(*${sentences}(study), sep="\\n")\nfor title, rows in ${sections}(study):\n    print(title, *rows, sep="\\n")`;
}
