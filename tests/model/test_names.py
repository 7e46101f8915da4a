"""What models are called, and which names mean one model."""

import pytest

from gossamer.model.names import same_model, title_of


def test_titles_are_without_the_paths_of_this_machine(tmp_path):
    for folder, title in (("gemma", "gemma"), ("gemma/hf", "gemma/hf"), ("gemma/checkpoint-9", "gemma/checkpoint-9")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        assert title_of(str(tmp_path / folder)) == title
    snapshot = tmp_path / "models--google--gemma" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    assert title_of(str(snapshot)) == "google/gemma"
    assert title_of("google/gemma-2-2b") == "google/gemma-2-2b"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("google/gemma-2-2b", "gemma-2-2b", True),
        ("/data/models/Gemma-2-2b/", "google/gemma-2-2b", True),
        ("gpt2-small", "openai-community/gpt2", True),
        ("gemma-2-2b", "gemma-2-9b", False),
        # A folder's name that says nothing does not tell two models apart: that of the folder above does.
        ("/data/smol/hf", "/data/gemma/hf", False),
        ("/data/gemma/hf", "gemma/hf", True),
        ("hf", "hf", True),
    ],
)
def test_which_names_mean_one_model(one, other, same):
    assert same_model(one, other) is same
    assert same_model(other, one) is same
