"""The folder of circuit-tracer's server, read as its page reads it: by ranges of bytes."""

import gzip
import json
import zlib
from pathlib import Path

import pytest
from test_export import PROMPT, SITES, WIDTHS, _graph

from gossamer.circuits.export import save_viewer_folder
from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard
from gossamer.features.feature_card import FeatureExample, Histogram


def _card(site: int, latent: int) -> FeatureCard:
    return FeatureCard(
        Feature(SITES[site], latent),
        "tiny",
        tokens=100,
        active=7,
        mean=1.0,
        std=0.5,
        maximum=3.5 + site,
        histogram=Histogram((1.0, 4.0), (7,)),
        promotes=((" Mary", 2.0), (" é", 1.0)),
        suppresses=((" John", -1.0),),
        examples=(FeatureExample((" a", " b"), (0.0, 3.5), 1, 0),),
        strata=(FeatureExample((" c",), (1.5,), 0, 2, stratum=0), FeatureExample((" d",), (1.4,), 0, 3, stratum=0)),
    )


def _unpaired(number: int) -> tuple[int, int]:
    return next((x, y) for x in range(10) for y in range(2000) if (x + y) * (x + y + 1) // 2 + y == number)


def _feature(folder: Path, number: int) -> dict:
    """The feature of a paired number, as the page fetches it."""
    layer, feature = _unpaired(number)
    entry = json.loads(gzip.decompress((folder / "features" / "index.json.gz").read_bytes()))[layer]
    start, end = entry["offsets"][feature : feature + 2]
    found = (folder / "features" / entry["filename"]).read_bytes()[start : end + 1]
    length = int.from_bytes(found[:4], "little")
    return json.loads(zlib.decompress(found[4 : 4 + length]))


def test_the_page_finds_the_graph_and_every_feature(tmp_path: Path) -> None:
    cards = [_card(0, 3), _card(1, 2), _card(2, 2), _card(3, 8)]
    folder = save_viewer_folder(tmp_path / "new", _graph(slug="ioi 4"), cards)
    (listed,) = json.loads((folder / "graph-metadata.json").read_text())["graphs"]
    graph = json.loads((folder / f"{listed['slug']}.json").read_text())
    assert graph["metadata"] == listed
    assert (listed["slug"], listed["scan"], listed["prompt_tokens"]) == ("ioi-4", "/tiny", list(PROMPT.tokens))
    assert graph["nodes"] == _graph()["nodes"]
    maxima = {"0": 3.5, "3": 4.5, "5": 6.5}
    for node in graph["nodes"]:
        if node["feature_type"] == "cross layer transcoder":
            found = _feature(folder, node["feature"])
            assert found["index"] == _unpaired(node["feature"])[1]
            # z.3 comes first in layer 3, resid_post.3 after its 17 latents.
            assert found["act_max"] == (5.5 if found["index"] == 17 + 2 else maxima[node["layer"]])
            assert found["top_logits"] == [" Mary", " é"]
            assert found["bottom_logits"] == [" John"]
            assert found["activation_frequency"] == 0.07
    assert [(group["quantile_name"], len(group["examples"])) for group in found["examples_quantiles"]] == [
        ("Top activations", 1),
        ("Quantile group 0", 2),
    ]
    assert found["examples_quantiles"][0]["examples"][0] == {
        "tokens": [" a", " b"],
        "tokens_acts_list": [0.0, 3.5],
        "train_token_ind": 1,
        "is_repeated_datapoint": False,
    }


def test_a_graph_without_cards_is_shown_without_examples(tmp_path: Path) -> None:
    folder = save_viewer_folder(tmp_path, _graph())
    assert json.loads(gzip.decompress((folder / "features" / "index.json.gz").read_bytes())) == []
    assert sorted(path.name for path in folder.iterdir()) == ["features", "graph-metadata.json", "tiny-ioi.json"]


def test_a_card_of_another_feature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"latent {WIDTHS[SITES[3]]} of resid_post.5 is outside its dictionary"):
        save_viewer_folder(tmp_path, _graph(), [_card(3, WIDTHS[SITES[3]])])
