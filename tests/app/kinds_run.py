"""A run with a file of every kind of results, small."""

import shutil

from adversarial_run import results, write_adversarial
from explain_run import write_explanations
from relations_run import write_relations
from sweep_run import write_sweep
from workbench_run import TEXT, write_store

from gossamer.attention import Limits, trace_prompt
from gossamer.attention.attribution_data import AttributionData
from gossamer.attention.ioi import results as ioi_results
from gossamer.circuits import kept_search
from gossamer.circuits import task_study as task_studies
from gossamer.circuits.adversarial import seeds
from gossamer.relations import study_results
from gossamer.replacement import coding_study
from gossamer.results import Record
from gossamer.tasks import get
from gossamer.training import request
from gossamer.training.recipe_comparison import RecipeComparison, Trained

MODEL = {"model": "bundled:spool"}


def write_task_study(folder, found, findings):
    """study.json of three tasks: one with a circuit beside it, one that missed its aim, one that was refused."""
    rows = []
    for name, missed, refused in (
        ("sva one", "", ""),
        ("sva two", "no size keeps <so much>", ""),
        ("gone", "", "cannot do it"),
    ):
        rows.append(task_studies.StudiedTask(name, name.replace(" ", "-"), 0.9, missed, refused, 40, 20, 1.5, "0" * 64))
        if not refused:
            found.circuit.save(folder / rows[-1].folder / "circuit.json")
            findings.save(folder / rows[-1].folder / "findings.json")
    return task_studies.FORMAT.save(folder / task_studies.RESULTS, Record(MODEL, tuple(rows)))


def write_coding(folder):
    """results.json of two dictionaries, one coded by pursuit."""

    def point(dictionary, method, k, l0, recovered):
        return coding_study.CodingPoint(dictionary, method, k, l0, recovered, 0.25, 2.0, 0.875, 0.9, 1.0, 0.0)

    points = [point("a", "encoder", None, 2.0, 0.6), point("b", "encoder", None, 16.0, 0.95)]
    points += [point(name, "gradient", k, float(k), 0.5 + k / 100) for name in "ab" for k in (2, 32)]
    settings = {**MODEL, "site": "resid_post.1", "ks": [2, 32], "methods": ["encoder", "gradient"]}
    return coding_study.FORMAT.save(folder / coding_study.RESULTS, Record(settings, tuple(points)))


def write_recipes(folder):
    """results.json of the baseline and two changes, over two seeds: one is ahead of it, one dies."""

    def one(variant, family, coefficient, seed, l0, kept, dead=0.0):
        return Trained(variant, family, coefficient, seed, l0, kept, kept - 0.1, dead, ((512, 0.0), (1024, dead)))

    trained = []
    for seed in (0, 1):
        trained += [
            one("baseline", "improvements", c, seed, l0, kept) for c, l0, kept in ((1.0, 16.0, 0.8), (3.0, 4.0, 0.6))
        ]
        trained += [one("no pre-encoder bias", "improvements", 1.0, seed, 8.0, 0.75 + seed / 1000)]
        trained += [one("ghost", "dead latents", 1.0, seed, 2.0, 0.5, 0.25)]
    return RecipeComparison("bundled:spool", "resid_post.1", {"seed": 0}, tuple(trained)).save(folder / "results.json")


def write_kinds(folder, found, findings):
    """A file of every kind of `KINDS`; rows where a view needs them. `found` and `findings` are of a circuit."""
    found.circuit.save(folder / "circuit" / "circuit.json")
    findings.save(folder / "circuit" / "findings.json")
    kept_search.FORMAT.save(folder / "circuit" / kept_search.FILE, kept_search.KeptSearch.of("0" * 64, found))
    write_task_study(folder / "circuits", found, findings)
    write_coding(folder / "coding")
    write_recipes(folder / "recipes")
    write_adversarial(folder / "adversarial", found.circuit.sha256)
    several = Record({"circuit": found.circuit.sha256}, tuple(results(seed=seed) for seed in (0, 1)))
    seeds.FORMAT.save(folder / "adversarial" / seeds.RESULTS, several)
    write_store(folder)
    write_relations(folder / "relations")
    shutil.copytree(folder / "relations", folder / "pairs", ignore=shutil.ignore_patterns("page.json"))
    model = found.study.model
    trace_prompt(model, found.study.dictionaries, TEXT, answer=" are", wrong=" is", nodes=2).save(folder / "trace.json")
    AttributionData("bundled:spool", 4, 4, (), Limits(), ()).save(folder / "explore.json")
    get("sva-simple").generate(model.tokenizer, n=8, seed=1, bos=True).save(folder / "task.json")
    write_sweep(folder / "steering", stop_after=2)
    write_explanations(folder / "explained")
    for path, form in {
        "relation-study/study.json": study_results.FORMAT,
        "ioi/ioi.json": ioi_results.FORMAT,
        "training/settings.json": request.FORMAT,
    }.items():
        form.save(folder / path, Record({**MODEL, "measures": ["pearson"], "threshold": 0.5}))
    return folder
