"""Explanations beside delphi's own code on the same latents: what is drawn, shown, asked, counted and scored.

    python benchmarks/explanations.py STORE --delphi PYTHON [--features 30] [--seed 0] [--quick] [--json]

STORE is a feature store of a corpus; `--delphi` names the Python of an environment with eai-delphi 0.1.3 (`pip install
--no-deps eai-delphi eai-sparsify`, and what they import but vLLM). Both sides get the same tokens and activations of
latents drawn at random among those active on 500 tokens or more, and ask the same scripted language model
(`scripted_chat.py`), in which an explanation is the latent's five strongest tokens. delphi has contexts of 256 tokens,
as by default; "centred" is its `center_examples=False`, which is the one that centres.

- The same windows through both scorers: balanced accuracy, AUROC and F1 of detection, which have to agree at every
  latent; marks of the fuzzing prompt and levels of the explainer's.
- What each draws by itself: test windows that the explainer saw, silent windows drawn twice, active windows that can
  never be drawn, how often the maximum stands at one place, activations that are not those of the tokens.
- Failures: what is said of answers that cannot be read, and of a last batch that is short; an explanation that there is
  none.
- What that does to the scores of the same explanations: detection, each with its own windows.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, parser, row, say, show
from scripted_chat import probability, refuses

from gossamer.chat.chat import TokenChances
from gossamer.explain import ChatJudge, ChatReply, ChatRequest, WindowedCorpus, choose_features
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.explainers import Evidence, explained
from gossamer.explain.metrics import ceil_level
from gossamer.explain.scorers import Trial, detection_random
from gossamer.explain.windows import RANDOM, FeatureWindows, Window, feature_windows
from gossamer.features import Feature
from gossamer.store import FeatureStore

CONTEXT, LENGTH = 256, 32
Json = dict[str, Any]


class Chat:
    """The language model of the comparison, as gossamer asks one."""

    model = "scripted"

    def __init__(self, *, refusing: bool = False) -> None:
        self.refusing = refusing

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answers to the texts of each question; to one for an explanation, nothing that can be read."""
        return [self.answer(one) for one in requests]

    def answer(self, request: ChatRequest) -> ChatReply:
        """To one question."""
        _, _, explanation = request.system.partition("Description: ")
        if not explanation:
            return ChatReply("I am not sure what these texts have in common.")
        shown = re.split(r"(?:^|\n)Text \d+: ", request.user)[1:]
        if self.refusing and refuses(shown[0]):
            return ChatReply("I cannot tell.")
        likely = [probability(json.loads(explanation), one) for one in shown]
        chances = tuple(
            TokenChances(str(int(p >= 0.5)), {"0": math.log(1 - p), "1": math.log(p)})
            for p in likely
            if request.top_logprobs
        )
        return ChatReply(json.dumps([int(p >= 0.5) for p in likely]), chances=chances)


def main() -> None:
    """Run delphi once and print the rows."""
    made = parser(__doc__, "6 latents")
    made.add_argument("store", help="a feature store")
    made.add_argument("--delphi", required=True, help="the Python of an environment with eai-delphi 0.1.3")
    made.add_argument("--features", type=int, default=30)
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    with FeatureStore(options.store) as store:
        corpus = WindowedCorpus.of(store)
        count = 6 if options.quick else options.features
        chosen = choose_features(store, count, least=500, seed=options.seed)
        drawn = {one: feature_windows(corpus, one, corpus.activations(one)) for one in chosen}
        ours = {one: windows for one, windows in drawn.items() if isinstance(windows, FeatureWindows)}
        told = {one: strongest_tokens(corpus, one) for one in ours}
        theirs = run_delphi(options, corpus, ours, told)
        say(f"{len(ours)} latents of {options.store}, {len(corpus.ids):,} tokens", options.json)
        rows = [*same_windows(ours, told, theirs), *drawn_windows(corpus, ours, theirs), *failures(ours, told, theirs)]
    show(rows, options.json)


def strongest_tokens(corpus: WindowedCorpus, feature: Feature) -> list[str]:
    """The five tokens with most of a latent's activation."""
    weights = np.bincount(corpus.ids, weights=corpus.activations(feature), minlength=len(corpus.words))
    return [corpus.words[one].strip() or corpus.words[one] for one in np.argsort(-weights, kind="stable")[:5]]


def run_delphi(
    options: argparse.Namespace,
    corpus: WindowedCorpus,
    ours: dict[Feature, FeatureWindows],
    told: dict[Feature, list[str]],
) -> dict[Feature, Json]:
    """What `delphi_peer.py` found."""
    places: dict[str, np.ndarray] = {}
    latents = []
    for feature, windows in ours.items():
        name, values = f"{feature.latent}_{len(latents)}", corpus.activations(feature)
        places[f"{name}_places"] = np.flatnonzero(values)
        places[f"{name}_values"] = values[values > 0]
        sides = {"positives": windows.positives, "negatives": windows.of_kind(RANDOM), "shown": windows.shown}
        given = {side: [as_json(one) for one in several] for side, several in sides.items()}
        latents.append({"name": name, "explanation": json.dumps(told[feature]), "maximum": windows.maximum, **given})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "places.npz", **places)
        words = [corpus.words[one] for one in corpus.ids.tolist()]
        (folder / "request.json").write_text(json.dumps({"words": words, "latents": latents}))
        program = "import pathlib, sys, delphi_peer as peer; peer.main(pathlib.Path(sys.argv[1]))"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [options.delphi, "-c", program, str(folder)]
        subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=True, stderr=subprocess.DEVNULL)
        found = json.loads((folder / "found.json").read_text())
    return dict(zip(ours, found, strict=True))


def as_json(window: Window) -> Json:
    """A window for the other side."""
    return {"tokens": window.tokens, "activations": window.activations}


def same_windows(
    ours: dict[Feature, FeatureWindows], told: dict[Feature, list[str]], theirs: dict[Feature, Json]
) -> list[Row]:
    """Both scorers on gossamer's windows, and what both show of them."""
    scores = {one: asked(detection_random, windows, told[one], batch=1) for one, windows in ours.items()}
    rows = []
    for what, mine, other in (
        ("balanced accuracy", lambda one: one.value, "accuracy"),
        ("AUROC", lambda one: one.auroc.value, "auc"),
        ("F1", lambda one: one.beside["f1"], "f1_score"),
    ):
        pairs = [(mine(scores[one]), theirs[one]["scores"]["detection"][other]) for one in ours]
        most = max(abs(a - b) for a, b in pairs)
        means = [statistics.mean(side) for side in zip(*pairs, strict=True)]
        rows.append(row(f"detection, the same windows: mean {what}", *means, "", "equal at every latent", most < 1e-9))
    marked = [
        (window.marked(window.strong(0.3 * window.maximum)), text)
        for one, windows in ours.items()
        for window, text in zip(windows.positives, theirs[one]["marked"], strict=True)
    ]
    same = statistics.mean(a == b for a, b in marked)
    rows.append(row("marked texts that are the same on both sides", same, 1.0, "share", "all", same == 1))
    levels = [
        (ceil_level(value, windows.maximum), level)
        for one, windows in ours.items()
        for window, several in zip(windows.shown, theirs[one]["levels"], strict=True)
        for value, level in zip(window.activations, several, strict=True)
    ]
    same = statistics.mean(a == b for a, b in levels)
    rows.append(row("levels of the explainer's texts that are the same", same, 1.0, "share", "all", same == 1))
    return rows


def asked(
    scorer: Callable[[Trial, ChatJudge], ExplanationScore],
    windows: FeatureWindows,
    words: list[str],
    *,
    batch: int = 5,
    refusing: bool = False,
) -> ExplanationScore:
    """A score by the scripted language model."""
    return scorer(Trial(windows, json.dumps(words)), ChatJudge(Chat(refusing=refusing), batch=batch))


def drawn_windows(
    corpus: WindowedCorpus, ours: dict[Feature, FeatureWindows], theirs: dict[Feature, Json]
) -> list[Row]:
    """What each side draws by itself."""
    rows = []
    fixed, centred = ({one: theirs[one]["windows"][kind] for one in ours} for kind in ("fixed", "centred"))
    mean = statistics.mean

    def compared(what: str, mine: float, other: float, target: str, holds: bool) -> None:
        rows.append(row(what, mine, other, "share", target, holds))

    seen = mean(share_seen(found["test"], found["train"]) for found in fixed.values())
    own = mean(
        mean(place(one) in {place(other) for other in (*windows.shown, *windows.top)} for one in windows.positives)
        for windows in ours.values()
    )
    compared("active test windows that the explainer saw", own, seen, "0", own == 0 < seen)
    documents = mean(share_of_documents(corpus, found["test"], found["train"]) for found in fixed.values())
    own = mean(
        mean(one.document in {other.document for other in (*windows.shown, *windows.top)} for one in windows.positives)
        for windows in ours.values()
    )
    compared("active test windows of a document that the explainer saw", own, documents, "0", own == 0 < documents)
    twice = mean(1 - len(set(found["silent"])) / len(found["silent"]) for found in fixed.values() if found["silent"])
    own = mean(1 - len(set(map(place, windows.negatives))) / len(windows.negatives) for windows in ours.values())
    compared("silent test windows that were drawn before", own, twice, "0", own == 0)
    lost = mean(1 - found["kept"] / found["active"] for found in centred.values())
    own = 1 - float((np.add.reduceat(np.ones(len(corpus.ids)), corpus.bounds[:-1])).sum()) / len(corpus.ids)
    compared("active windows that can never be drawn (centred)", own, lost, "0", own == 0)
    most = mean(most_common([int(np.argmax(one["values"])) for one in found["test"]]) for found in centred.values())
    own = mean(most_common([int(np.argmax(one.activations)) for one in windows.positives]) for windows in ours.values())
    compared("the maximum at its most common place (centred)", own, most, "<= 0.15", own <= 0.15)
    wrong = mean(share_wrong(corpus.activations(one), found["test"]) for one, found in centred.items())
    own = mean(share_untrue(corpus, corpus.activations(one), windows.positives) for one, windows in ours.items())
    compared("active test windows with activations of other tokens (centred)", own, wrong, "0", own == 0)
    return rows


def place(window: Window) -> tuple[int, int]:
    """Where a window is from."""
    return window.document, window.start


def share_seen(test: list[Json], train: list[Json]) -> float:
    """Of test windows, those that were shown as well."""
    shown = {one["first"] for one in train}
    return statistics.mean(one["first"] in shown for one in test)


def share_of_documents(corpus: WindowedCorpus, test: list[Json], train: list[Json]) -> float:
    """Of test windows, those that share a document with one that was shown."""
    shown = {int(corpus.documents[one[end]]) for one in train for end in ("first", "last")}
    return statistics.mean(bool({int(corpus.documents[one[end]]) for end in ("first", "last")} & shown) for one in test)


def most_common(places: list[int]) -> float:
    """The share of the most common place."""
    return Counter(places).most_common(1)[0][1] / len(places)


def share_wrong(values: np.ndarray, test: list[Json]) -> float:
    """Of windows, those whose activations are not those of their tokens."""
    return statistics.mean(
        not np.allclose(values[one["first"] : one["first"] + len(one["values"])], one["values"]) for one in test
    )


def share_untrue(corpus: WindowedCorpus, values: np.ndarray, windows: Sequence[Window]) -> float:
    """The same of gossamer's windows."""
    starts = {(int(corpus.documents[at]), int(corpus.positions[at])): int(at) for at in corpus.bounds[:-1]}
    return statistics.mean(
        not np.allclose(values[starts[place(one)] :][: len(one.tokens)], one.activations) for one in windows
    )


def failures(
    ours: dict[Feature, FeatureWindows], told: dict[Feature, list[str]], theirs: dict[Feature, Json]
) -> list[Row]:
    """Answers that cannot be read, short batches, an explanation that there is none; and the scores that come of it."""
    rows = []
    refused = [asked(detection_random, windows, told[one], batch=1, refusing=True) for one, windows in ours.items()]
    counted = statistics.mean(one.items.failures for one in refused)
    table = [theirs[one]["scores"]["refused"] for one in ours]
    reported = statistics.mean(one["failed_count"] / one["asked"] for one in table)
    really = statistics.mean(1 - one["total_examples"] / one["asked"] for one in table)
    what = f"failures that are reported, where {really:.3f} failed"
    rows.append(row(what, counted, reported, "share", "all of them", abs(counted - really) < 1e-9))
    short = statistics.mean(
        asked(detection_random, windows, told[one], batch=7).items.failures for one, windows in ours.items()
    )
    table = [theirs[one]["scores"]["short batch"] for one in ours]
    lost = statistics.mean(1 - one["total_examples"] / one["asked"] for one in table)
    rows.append(row("answers lost in a last batch that is short (7 a prompt)", short, lost, "share", "0", short == 0))
    said = explained(Chat(), "delphi", [Evidence(windows) for windows in ours.values()])
    own = statistics.mean(bool(one.text) for one in said)
    other = statistics.mean(bool(theirs[one]["unreadable"]) for one in ours)
    rows.append(row("unreadable explanations that go on to the scorers", own, other, "share", "0", own == 0))
    mine = statistics.mean(
        float(asked(detection_random, windows, told[one]).value or 0) for one, windows in ours.items()
    )
    other = statistics.mean(theirs[one]["scores"]["own detection"]["accuracy"] for one in ours)
    what = "detection, each with its own windows: mean balanced accuracy"
    rows.append(row(what, mine, other, "", "-", True))
    return rows


if __name__ == "__main__":
    main()
