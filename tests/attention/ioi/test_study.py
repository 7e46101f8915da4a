"""The study as a whole, on the bundled model: it resumes, comes back from disk, and refuses what it cannot do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ioi_lab import spool, z_dictionaries

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention.ioi import PARTS, IOIStudy, StudyOptions, ioi_study
from gossamer.attention.ioi.patching import AttentionHead, head_effects
from gossamer.attention.ioi.results import (
    EVERY,
    FORMAT,
    LATENTS,
    RESULTS,
    Estimate,
    ScorePair,
    ScoreStudy,
    StudyPart,
)
from gossamer.attention.ioi.setup import CHOOSE, REPORT, Setup
from gossamer.errors import GossamerError, UsageError
from gossamer.report.ioi import markdown, sections, sentences, write_ioi
from gossamer.tasks.bootstrap import sampled

OPTIONS = StudyOptions(
    prompts=16,
    templates=("park_said", "store_said", "store_gave", "garden_gave"),
    connectives=(" or",),
    layers=2,
    text_rows=4,
    context=24,
)
TEXTS = [
    "Then, Tom and Mary went to the park. Tom gave a ball to Mary. Mary said hello to Tom and Ben with Amy or Sue."
] * 4

K = {"1": 0.1, "2": 0.2, "8": 0.3}
PAIR = ScorePair("z.2/1@END", "z.1/3@IO", 0.2, 0.1, 0.5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The model, dictionaries on z of two layers, and the folder of a whole study."""
    model, _ = spool()
    dictionaries = z_dictionaries(model, model.tokenize(TEXTS), range(2, 4))
    folder = tmp_path_factory.mktemp("ioi")
    return model, dictionaries, folder, ioi_study(model, dictionaries, TEXTS, options=OPTIONS, folder=folder)


def test_all_parts_are_measured_and_come_back(lab):
    model, _, folder, study = lab
    assert tuple(study.parts) == PARTS
    again = IOIStudy.load(folder)
    assert again.parts.keys() == study.parts.keys()
    for name, part in study.parts.items():
        assert repr(vars(again.parts[name])) == repr(vars(part))
    found = study.found
    assert {one.side for one in found.ability} == {CHOOSE, REPORT}
    assert {one.site for one in found.trust} == {"z.2", "z.3"}
    assert {(one.site, EVERY) for one in found.latents if one.latent == EVERY} == {("z.2", EVERY), ("z.3", EVERY)}
    assert len(found.survey) == 2 * model.n_heads
    assert next(one for one in found.noised if one.change == "none").kept.value == 1
    counted = {one.change: one.per_million for one in found.noised}
    assert counted["connective or"] == pytest.approx(1e6 / 25)
    assert math.isnan(counted["names"])


def test_heads_are_reported_of_the_other_templates(lab):
    model, _, _, study = lab
    _, speller = spool()
    setup = Setup.of(model, {}, study.found.ability, speller, OPTIONS.prompts, OPTIONS.seed)
    rows = setup.side(REPORT)
    assert {setup.drawn[row].template for row in rows.tolist()}.isdisjoint(
        {setup.drawn[row].template for row in setup.side(CHOOSE).tolist()}
    )
    row = next(one for one in study.found.heads if one.role == "S2")
    falls = head_effects(setup.clean, setup.swapped, "S2", [row.head.layer])[0, row.head.head]
    assert row.reported.value == pytest.approx(float(falls[rows].mean() / setup.whole[rows].mean()), abs=1e-5)
    weights = sampled(torch.arange(len(rows)), torch.tensor(templates_of(setup, rows)), OPTIONS.seed).numpy()
    draws = (weights @ falls[rows].double().numpy()) / (weights @ setup.whole[rows].double().numpy())
    assert row.reported.low == pytest.approx(np.quantile(draws, 0.025), abs=1e-6)
    assert row.reported.high == pytest.approx(np.quantile(draws, 0.975), abs=1e-6)


def templates_of(setup, rows):
    names = [setup.drawn[row].template for row in rows.tolist()]
    return [sorted(set(names)).index(name) for name in names]


def test_a_stopped_study_goes_on_to_the_same_record(lab, tmp_path):
    model, dictionaries, folder, _ = lab
    record = FORMAT.load(folder / RESULTS)
    FORMAT.save(tmp_path / RESULTS, replace(record, rows=record.rows[:2]))
    # Heads first, dictionaries later.
    ioi_study(model, None, TEXTS, options=OPTIONS, folder=tmp_path, only=["noising"])
    assert not (tmp_path / LATENTS).exists()
    later = ioi_study(model, dictionaries, TEXTS, options=OPTIONS, folder=tmp_path, only=["sources"])
    assert list(later.parts) == ["ability", "patching", "noising", "latents", "sources"]
    whole = IOIStudy.load(folder)
    for name, part in later.parts.items():
        assert repr(vars(part)) == repr(vars(whole.parts[name]))


def test_what_is_said_of_a_study(lab, tmp_path):
    *_, study = lab
    # The bundled model has no name-moving heads: a score as one of another model would have it.
    scores = ScoreStudy(
        AttentionHead(3, 0), "IO - S1", 1.0, 0.5, K, K, {"latent x mlp": 0.4}, (PAIR,), Estimate(0.3, 0.1, 0.5)
    )
    study = replace(study, parts={**study.parts, "scores": StudyPart("scores", scores=(scores,))})
    pictures = write_ioi(study, tmp_path)
    assert sorted(path.name for path in pictures) == ["heads.png", "latents.png", "noising.png", "scores.png"]
    text = (tmp_path / "tables.md").read_text()
    assert text == markdown(study)
    assert all(len(row) == len(rows[0]) for _, rows in sections(study) for row in rows)
    assert len(list(sections(study))) >= 10
    assert any("other connectives keep" in one for one in sentences(study))
    alone = IOIStudy(study.settings, {"ability": study.parts["ability"]})
    assert list(sentences(alone)) == []
    assert len(list(sections(alone))) == 1


def test_refusals(lab, tiny_gpt2, tmp_path):
    model, dictionaries, folder, _ = lab
    with pytest.raises(GossamerError, match=r"cannot do indirect object identification: at least two templates .* 75%"):
        ioi_study(tiny_gpt2, options=StudyOptions(templates=("park_said", "store_said")))
    with pytest.raises(UsageError, match="dictionaries on z expected, found one at resid_post"):
        ioi_study(model, DictionarySet.load(bundled.path("spool") / "dictionaries"))
    with pytest.raises(UsageError, match=r"parts ability, .* expected, found 'heads'"):
        ioi_study(model, only=["heads"])
    with pytest.raises(UsageError, match="holds another study"):
        ioi_study(model, dictionaries, TEXTS, options=replace(OPTIONS, seed=1), folder=folder)
    with pytest.raises(UsageError, match="prompts: at least 8 expected, found 2"):
        StudyOptions(prompts=2)
    with pytest.raises(UsageError, match="with a tokenizer expected"):
        ioi_study(LanguageModel.load(model.hf))
    with pytest.raises(UsageError):
        IOIStudy.load(tmp_path)


def test_two_files_of_different_studies_are_not_one(lab, tmp_path):
    *_, folder, _ = lab
    for name in (RESULTS, LATENTS):
        record = FORMAT.load(folder / name)
        FORMAT.save(tmp_path / name, replace(record, settings={**record.settings, "seed": len(name)}))
    with pytest.raises(GossamerError, match="two files of one study expected"):
        IOIStudy.load(tmp_path)


def test_name_movers_look_at_the_name_and_write_it(lab):
    *_, study = lab
    part, row = study.parts["patching"], next(one for one in study.found.heads if one.role == "END")
    rows = [
        replace(row, head=AttentionHead(1, number), direct_chosen=direct, to_io=io, to_s1=s1)
        for number, (direct, io, s1) in enumerate([(0.3, 0.6, 0.1), (0.5, 0.1, 0.0), (0.4, 0.3, 0.5), (0.6, 0.5, 0.2)])
    ]
    assert replace(part, heads=tuple(rows)).name_movers == [AttentionHead(1, 3), AttentionHead(1, 0)]
    assert replace(part, heads=(replace(rows[0], direct_chosen=0.01),)).name_movers == []
