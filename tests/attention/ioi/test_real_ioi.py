"""The study on a real model that does the task: the heads that exact patching finds there."""

import pytest

from gossamer.attention.ioi import StudyOptions, ioi_study
from gossamer.model import LanguageModel

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_heads_of_tinytalk(real_folder):
    model = LanguageModel.load(real_folder / "models" / "tinytalk-3m-gpt2", device="cpu")
    options = StudyOptions(prompts=8, templates=("park_said", "store_said", "beach_handed"), layers=2)
    study = ioi_study(model, options=options, only=["paths"])
    found = study.found
    strongest = {
        role: max((one for one in found.heads if one.role == role), key=lambda one: one.reported.value)
        for role in ("S2", "END")
    }
    assert {role: str(one.head) for role, one in strongest.items()} == {"S2": "3.3", "END": "5.4"}
    assert strongest["END"].reported.value > 0.8
    assert [str(head) for head in found.name_movers] == ["6.11"]
    paths = {(str(one.sender), one.through, str(one.receiver)): one.effect.value for one in found.paths}
    # What passes from the second mention to the end goes through 5.4 to the name-moving head's query.
    assert max(paths, key=lambda path: paths[path]) in {("5.4", "q", "6.11"), ("3.3", "v", "5.4")}
    assert min(paths["5.4", "q", "6.11"], paths["3.3", "v", "5.4"]) > 0.2
