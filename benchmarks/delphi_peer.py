"""delphi at work on latents of a store: `explanations.py` has it run by the Python of an environment with eai-delphi.

vLLM is not needed: delphi's package imports it for a client that is not used here, so that empty modules stand in its
place. A folder has `places.npz` (what each latent does at every place of the text) and `request.json` (words of the
places, and for each latent its explanation and the windows that gossamer tests on). Tokens are given to delphi as
places in the text and its tokenizer looks their words up, so that every window that comes back says where it is from.
It writes `found.json`.
"""

import asyncio
import contextlib
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scripted_chat import probability, refuses

for name in ("vllm", "vllm.inputs", "vllm.distributed", "vllm.distributed.parallel_state"):
    sys.modules[name] = types.ModuleType(name)
for module, name in (
    ("vllm", "LLM"),
    ("vllm", "SamplingParams"),
    ("vllm.inputs", "TokensPrompt"),
    ("vllm.distributed.parallel_state", "destroy_distributed_environment"),
    ("vllm.distributed.parallel_state", "destroy_model_parallel"),
):
    setattr(sys.modules[module], name, None)

from delphi.clients.client import Client, Response  # noqa: E402
from delphi.config import ConstructorConfig, SamplerConfig  # noqa: E402
from delphi.explainers import DefaultExplainer  # noqa: E402
from delphi.latents import ActivatingExample, Latent, LatentRecord, NonActivatingExample, constructor  # noqa: E402
from delphi.latents.latents import ActivationData  # noqa: E402
from delphi.latents.samplers import normalize_activations, sampler  # noqa: E402
from delphi.log.result_analysis import compute_auc, compute_classification_metrics, compute_confusion  # noqa: E402
from delphi.scorers import DetectionScorer, FuzzingScorer  # noqa: E402
from delphi.scorers.classifier.sample import examples_to_samples  # noqa: E402
from pandas import DataFrame  # noqa: E402

CONTEXT = 256
Json = dict[str, Any]


def main(folder: Path) -> None:
    """Go through the latents."""
    torch.set_num_threads(1)
    asked = json.loads((folder / "request.json").read_text())
    places = np.load(folder / "places.npz")
    words = Words(asked["words"])
    with contextlib.redirect_stdout(sys.stderr):
        found = [latent(one, words, places) for one in asked["latents"]]
    (folder / "found.json").write_text(json.dumps(found))


def latent(asked: Json, words: "Words", places: Any) -> Json:
    """What delphi draws and finds for one latent, and what it makes of gossamer's windows."""
    where, values = (torch.from_numpy(places[f"{asked['name']}_{kind}"]) for kind in ("places", "values"))
    count = len(words.words) // CONTEXT * CONTEXT
    inside = where < count
    data = ActivationData(torch.stack([where // CONTEXT, where % CONTEXT], dim=1)[inside], values[inside])
    tokens = torch.arange(count).reshape(-1, CONTEXT)
    found: Json = {"name": asked["name"], "windows": {}, "scores": {}}
    for kind, fixed in (("fixed", True), ("centred", False)):
        record = LatentRecord(Latent("site", 0))
        settings = ConstructorConfig(center_examples=fixed, min_examples=1)
        record = sampler(constructor(record, data, settings, tokens, words), SamplerConfig(), words)
        active = len(torch.unique(data.locations[:, 0] * (CONTEXT // 32) + data.locations[:, 1] // 32))
        found["windows"][kind] = {
            "active": active,
            "kept": len(record.examples),
            "train": [first_and_values(one) for one in record.train],
            "test": [first_and_values(one) for one in record.test],
            "silent": [int(one.tokens[0]) for one in record.not_active],
        }
        if fixed:
            record.explanation = asked["explanation"]
            found["scores"]["own detection"] = scored(DetectionScorer(Chat(), n_examples_shown=5), record)
            found["scores"]["own fuzzing"] = scored(FuzzingScorer(Chat(), n_examples_shown=5), record)
            explainer = DefaultExplainer(Chat(explains=False))
            found["unreadable"] = asyncio.run(explainer(record)).explanation
    same = LatentRecord(Latent("site", 0), explanation=asked["explanation"])
    same.test = [example(ActivatingExample, one) for one in asked["positives"]]
    same.not_active = [example(NonActivatingExample, one) for one in asked["negatives"]]
    chat = Chat(chances=True)
    found["scores"]["detection"] = scored(DetectionScorer(chat, n_examples_shown=1, log_prob=True), same)
    found["scores"]["fuzzing"] = scored(FuzzingScorer(chat, n_examples_shown=1, log_prob=True), same)
    found["scores"]["refused"] = scored(DetectionScorer(Chat(refusing=True), n_examples_shown=1), same)
    found["scores"]["short batch"] = scored(DetectionScorer(Chat(), n_examples_shown=7), same)
    found["marked"] = [one.text for one in examples_to_samples(same.test, highlighted=True)]
    shown = normalize_activations([example(ActivatingExample, one) for one in asked["shown"]], asked["maximum"])
    found["levels"] = [[int(level) for level in one.normalized_activations] for one in shown]
    return found


def first_and_values(one: ActivatingExample) -> Json:
    """Where a window is from, and what it says is active there."""
    return {"first": int(one.tokens[0]), "last": int(one.tokens[-1]), "values": one.activations.tolist()}


def example(kind: type, window: Json) -> Any:
    """A window of gossamer as delphi has them."""
    values = torch.tensor(window["activations"])
    return kind(tokens=torch.zeros(len(values)), activations=values, str_tokens=window["tokens"])


def scored(scorer: Any, record: LatentRecord) -> Json:
    """What delphi publishes of its scorer's answers, and how many answers there are."""
    answers = asyncio.run(scorer(record)).score
    rows = [{"activating": a.activating, "prediction": a.prediction, "probability": a.probability} for a in answers]
    table = DataFrame(rows)
    confusion = compute_confusion(table)
    told = {**confusion, **compute_classification_metrics(confusion), "auc": compute_auc(table)}
    return {**{name: None if one is None else float(one) for name, one in told.items()}, "asked": len(answers)}


class Words:
    """Looks up the word of each place of the text."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def batch_decode(self, places: torch.Tensor) -> list[str]:
        """A word a place."""
        return [self.words[int(one)] for one in places]


class Chat(Client):
    """The language model of the comparison behind delphi's interface."""

    def __init__(self, *, chances: bool = False, refusing: bool = False, explains: bool = True) -> None:
        super().__init__("scripted")
        self.chances, self.refusing, self.explains = chances, refusing, explains

    async def generate(self, prompt: Any, **_: Any) -> Response:
        """Answers to the texts of delphi's prompt, in its form."""
        asked = prompt[-1]["content"]
        if not self.explains:
            return Response("I am not sure what these texts have in common.")
        explanation, texts = re.split(r"\n+Te[sx]t examples:\n\n", asked, maxsplit=1)
        words = json.loads(explanation.partition(": ")[2])
        shown = re.split(r"(?:^|\n)Example \d+: ", texts)[1:]
        if self.refusing and refuses(shown[0]):
            return Response("I cannot tell.")
        likely = [probability(words, one) for one in shown]
        text = "[" + ",".join(str(int(one >= 0.5)) for one in likely) + "]"
        return Response(text, [token(one) for one in likely] if self.chances else None)


def token(likely: float) -> Any:
    """A digit of an answer with the log-probabilities of both."""
    top = [types.SimpleNamespace(token=digit, logprob=math.log(p)) for digit, p in (("0", 1 - likely), ("1", likely))]
    return types.SimpleNamespace(token=str(int(likely >= 0.5)), top_logprobs=top)
