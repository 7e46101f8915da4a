"""Nodes moved inside the model itself on one prompt: what that does to what the model says next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.tasks.task import PromptPairs

PatchMode = Literal["zero", "mean", "resample", "value"]


@dataclass(frozen=True)
class WordChange:
    """One token of the vocabulary before and after: logits and probabilities."""

    word: str
    logit: float
    patched_logit: float
    probability: float
    patched_probability: float


@dataclass(frozen=True)
class PatchedPrompt:
    """A prompt in the model, and in the model with some latents moved.

    Attributes:
        mode: where the latents went.
        metric, patched_metric: what the task measures of the prompt; NaN for a distance from the model.
        kl: KL(model || patched model) at the answer position, in nats.
        words: the answers, right and wrong, then what the model and the patched model find most likely.
    """

    mode: PatchMode
    metric: float
    patched_metric: float
    kl: float
    words: tuple[WordChange, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.mode}: metric {self.metric:.3g} to {self.patched_metric:.3g}"
        yield f"KL {self.kl:.3g}"


@torch.no_grad()
def patch_nodes(
    study: Study, prompts: PromptPairs, row: int, nodes: Nodes, mode: PatchMode, value: float = 0.0, *, words: int = 8
) -> PatchedPrompt:
    """Move latents at their roles' tokens in one prompt, and run the model on from there.

    Only these latents change: the reconstruction error of every dictionary stays, so that with no nodes this is the
    model itself. Later nodes encode the stream as the earlier ones left it, and are then moved too.

    Args:
        study: model, dictionaries and ablation values.
        prompts: training or held-out prompts of its task.
        row: which of them.
        nodes: what is moved.
        mode: to 0, to the mean over the counterfactuals at the same role, to what it is in the prompt's own
            counterfactual, or to `value`.
        value: for "value".
        words: most likely tokens before and after that are listed.

    Raises:
        UsageError: no such prompt, or "resample" for a prompt that is not aligned with its counterfactual.
    """
    if not 0 <= row < len(prompts):
        raise UsageError(f"prompt: 0 to {len(prompts) - 1} expected, found {row}")
    one = prompts.select([row])
    ablation = _moved_to(study, nodes, mode, value)
    splice = Splice.of(study.model, study.dictionaries, one, ablation, nodes, non_nodes="kept", batch_size=1)
    own = require_finite(splice.full().logits(), "the model's logits")
    patched = splice(torch.zeros(len(nodes), device=study.model.device))
    before, after = (logits.float().log_softmax(dim=-1)[0] for logits in (own, require_finite(patched, "its logits")))
    return PatchedPrompt(
        mode,
        _metric(splice.examples, own),
        _metric(splice.examples, patched),
        (before.exp() * (before - after)).sum().item(),
        _words(study, splice.examples, (own[0], patched[0]), (before, after), words),
    )


def _moved_to(study: Study, nodes: Nodes, mode: PatchMode, value: float) -> Ablation:
    """Ablation values that leave every error as it is."""
    if mode == "value":
        return Ablation("mean", "keep", dict(_constant(study, nodes, value)))
    if mode == "mean" and study.ablation.kind == "mean":
        known = study.ablation.sites
        return Ablation("mean", "keep", {site: replace(one, error=None) for site, one in known.items()})
    return Ablation.measure(study.model, study.dictionaries, study.task, kind=mode, errors="keep")


def _constant(study: Study, nodes: Nodes, value: float) -> Iterator[tuple[Site, SiteAblation]]:
    """`value` for every latent of the nodes; no other latent's is read."""
    groups = len(study.task.ablation_group_names)
    for index, (site, dictionary) in enumerate(study.dictionaries.items()):
        latents = torch.zeros(groups, dictionary.n_latents, device=study.model.device)
        latents[:, nodes.at(index).columns] = value
        yield site, SiteAblation(latents, None)


def _metric(examples: PromptPairs, logits: Float[Tensor, "1 vocab"]) -> float:
    return float("nan") if examples.metric.distance else float(examples.measure(logits, slice(None))[0])


def _words(
    study: Study,
    examples: PromptPairs,
    logits: Sequence[Float[Tensor, "vocab"]],
    log_probs: Sequence[Float[Tensor, "vocab"]],
    count: int,
) -> tuple[WordChange, ...]:
    answers = [int(examples.answer[0]), int(examples.incorrect[0])]
    likely = [token for one in log_probs for token in one.topk(min(count, len(one))).indices.tolist()]
    chosen = list(dict.fromkeys([*answers, *likely]))
    columns = [values[chosen].tolist() for values in (*logits, *(one.exp() for one in log_probs))]
    return tuple(WordChange(study.model.word(token), *found) for token, *found in zip(chosen, *columns, strict=True))
