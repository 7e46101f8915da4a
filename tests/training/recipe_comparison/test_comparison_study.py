"""A whole small grid: trained in one pass, measured, written, drawn, and not done twice."""

import json
from dataclasses import asdict, replace

import pytest
from training_fixtures import CONFIG, texts, with_fit

from gossamer.model import Site
from gossamer.model.fingerprint import weights_sha256
from gossamer.report.recipe_comparison import draw
from gossamer.training.fit import fit
from gossamer.training.recipe_comparison import (
    RecipeComparison,
    RecipeComparisonConfig,
    compare_recipes,
    study,
    variants,
)

GRID = RecipeComparisonConfig(n_latents=24, coefficients=(0.1, 1.0), seeds=1, dead_after=128, recovery=3)


@pytest.mark.slow
def test_a_grid_end_to_end(tiny_gpt2, tmp_path, monkeypatch):
    loop = with_fit(tokens=64 * 8, log_every=2, checkpoint_every=100)
    arguments = (tiny_gpt2, texts(), Site("resid_post", 1), GRID, CONFIG.corpus, loop, tmp_path)
    found = compare_recipes(*arguments, rows=16)
    assert len(found.trained) == 2 * len(variants(GRID))
    assert {one.family for one in found.trained} == {"improvements", "dead latents"}
    for one in found.trained:
        assert 0 <= one.l0 <= 24
        assert 0 <= one.dead <= 1
        assert [seen for seen, _ in one.dead_curve] == [64, 192, 320, 448, 512]
    weak, strong = (
        [one.l0 for one in found.trained if one.coefficient == coefficient and one.variant == "baseline"]
        for coefficient in (0.1, 1.0)
    )
    assert weak > strong
    assert found.settings["weights_sha256"] == weights_sha256(arguments[0].hf)
    plain = json.loads(json.dumps(asdict(found)))
    assert asdict(RecipeComparison.load(tmp_path / "results.json")) == {**asdict(found), "settings": plain["settings"]}
    # As it was written before it had a version.
    (tmp_path / "old.json").write_text(json.dumps(plain))
    assert RecipeComparison.load(tmp_path / "old.json") == RecipeComparison.load(tmp_path / "results.json")
    assert (tmp_path / study.TABLE).read_text().count("\n") == 2 + len(found.trained)
    for picture in draw(found, tmp_path):
        assert picture.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("gossamer.training.dictionary_trainer.DictionaryTrainer.step", None)
    assert compare_recipes(*arguments, rows=16) == found


def test_a_seed_is_one_of_weights_and_of_the_order_of_the_data_and_its_results_are_kept(
    tiny_gpt2, tmp_path, monkeypatch
):
    grid = replace(GRID, coefficients=(1.0,), seeds=2, only=("ghost",))
    arguments = (tiny_gpt2, texts(), "resid_post.1", grid, CONFIG.corpus, with_fit(tokens=64 * 4), tmp_path)
    orders = []

    def stopped(*given, **named):
        orders.append(given[5])
        if len(orders) == 2:
            raise KeyboardInterrupt
        return fit(*given, **named)

    monkeypatch.setattr(study, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare_recipes(*arguments, rows=16)
    kept = RecipeComparison.load(tmp_path / "results.json").trained
    assert [(one.variant, one.seed) for one in kept] == [("baseline", 0), ("ghost", 0)]
    found = compare_recipes(*arguments, rows=16)
    assert found.trained[:2] == kept
    assert [(one.variant, one.seed) for one in found.trained[2:]] == [("baseline", 1), ("ghost", 1)]
    assert orders == [0, 1, 0, 1]
