/** A study as its report has it: what was found in words, pictures and tables. */
import { type Shapes, get } from "../api";
import { Answer, Empty, useAnswer } from "../parts/states";
import { Pictures, Tables } from "../parts/study";
import { Tools } from "../parts/tools";

type Page = Shapes["StudyPage"];

/** By kind: what it is called, how its numbers are to be read, and where its class and its report are. */
const KINDS: Record<string, { title: string; note: string; command: string; python: string; report: string; name: string }> = {
  "IOI study": { title: "Who gets what: indirect objects", note: "Choices are made on half of the templates and reported on the other half; intervals of 95 % draw templates first, then their prompts.", command: "gossamer ioi", python: "gossamer.attention.ioi", report: "gossamer.report.ioi", name: "IOIStudy" },
  "study of relations": { title: "How features go on from layer to layer", note: "Gates are counted again, and latents ablated, on text on which nothing was chosen; chance is what shuffled documents and redrawn edges give.", command: "gossamer study-relations", python: "gossamer.relations", report: "gossamer.report.relation_study", name: "RelationStudy" },
};

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
      {page.sentences.length ? <ul className="findings">{page.sentences.map((one) => <li key={one}>{one}</li>)}</ul> : <Empty>Nothing was measured yet: let <code>{kind.command}</code> go on.</Empty>}
      <div className="columns"><Pictures name={id} pictures={page.pictures} /></div>
      <Tables name={id} tables={page.tables} />
      <Tools name={id} data={page} python={`from pathlib import Path\n\nfrom ${kind.python} import ${kind.name}\nfrom ${kind.report} import sections, sentences\n\nstudy = ${kind.name}.load(Path(${JSON.stringify(page.file)}).parent)\nprint(*sentences(study), sep="\\n")\nfor title, rows in sections(study):\n    print(title, *rows, sep="\\n")`} />
    </>
  );
}
