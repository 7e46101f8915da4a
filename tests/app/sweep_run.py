"""A small sweep of the bundled model, as `gossamer steer --words` leaves one."""

import torch

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.results import Record
from gossamer.steering import (
    Cell,
    SamplingPlan,
    SweepPlan,
    WordList,
    add,
    behind_first,
    clamp,
    sweep,
)
from gossamer.steering.decomposition import HeldOutFit
from gossamer.steering.pareto import UNSTEERED
from gossamer.steering.sweep import FORMAT
from gossamer.steering.vector_notes import VectorNotes

PROMPTS = ("The boys near the", "The dog that the girls", "The cats near the", "The girl that the boys")
NEUTRAL = ["The boys near the dog are", "The cat that the girls see is", "The dogs near the boy are"]


def write_sweep(folder, stop_after=None):
    """sweep.json with the unsteered model, a prompt, two directions, a feature and two random controls.

    `stop_after` cells it stops, as a sweep does that was interrupted.
    """
    model = LanguageModel.load("bundled:spool", device="cpu")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    site = list(dictionaries)[-1]
    where = behind_first(model)
    draw = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(model.d_model, generator=draw) for name in ("diff_mean", "pca", "random_direction_0")}
    cells = [Cell(UNSTEERED), Cell("prompt", prefix="The cat is here. ")]
    for amount in (0.5, 2.0):
        cells += [Cell(name, (add(site, vector, amount).where(where),)) for name, vector in vectors.items()]
        cells += [Cell("single_feature", (clamp(dictionaries[site], 3, amount).where(where),))]
        cells += [Cell("random_feature_0", (clamp(dictionaries[site], 9, amount).where(where),))]
    plan = SweepPlan(
        PROMPTS, WordList(("cat", "cats")), model.tokenize([one.replace("cat", "dog") for one in NEUTRAL]),
        SamplingPlan(samples=2, max_new_tokens=5, seed=1), rows_at_once=16,
    )  # fmt: skip
    notes = VectorNotes({"pca": -0.2}, {"pca": HeldOutFit(0.5, 0.75)}, {"caa": "no pairs were given"})
    folder.mkdir(parents=True, exist_ok=True)
    if stop_after is None:
        return sweep(model, cells, plan, folder, notes=notes)
    whole = sweep(model, cells, plan, notes=notes)
    part = Record(whole.settings, whole.rows[:stop_after], whole.provenance)
    FORMAT.save(folder / "sweep.json", part)
    return part
