"""Which family each prompt belongs to: by what it says of itself, or by how it uses the dictionaries' latents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.progress import begin
from gossamer.tasks.prompt_pairs import PromptPairs

FamilyKind = Literal["template", "case", "roles", "profile"]
KINDS: tuple[FamilyKind, ...] = get_args(FamilyKind)
# Clusters that are tried, and training prompts that each must have.
CLUSTERS = (2, 3, 4)
LEAST = 8


@dataclass(frozen=True)
class Grouping:
    """Names of families, prompt by prompt.

    Attributes:
        training, held_out: of the prompts of each split.
        silhouette: of clusters, on the training prompts; NaN for labels.
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    silhouette: float = math.nan


def labelled(training: PromptPairs, held_out: PromptPairs, roles: Sequence[str], by: FamilyKind) -> Grouping:
    """By template, by case, or by the order in which roles come ("roles").

    Raises:
        UsageError: all training prompts have one label.
    """
    found = Grouping(tuple(_labels(training, roles, by)), tuple(_labels(held_out, roles, by)))
    if len(set(found.training)) < 2:
        (only,) = set(found.training)
        raise UsageError(f"families by {by}: at least two expected, found {only!r} alone; use another, as profile")
    return found


def _labels(examples: PromptPairs, roles: Sequence[str], by: FamilyKind) -> list[str]:
    if by == "roles":
        rows = examples.clean.roles.tolist()
        orders = [[roles[role] for role in row if role >= 0] for row in rows]
        return [" ".join(one for one, before in zip(order, [None, *order], strict=False) if one != before)
                for order in orders]  # fmt: skip
    return [prompt.template if by == "template" else prompt.case for prompt in examples.prompts]


def profiles(splice: Splice) -> Float[Tensor, "prompt node"]:
    """First-order effect of each node on each prompt's metric, at the unmasked network; rows of norm 1.

    Their mean before they are normalised is attribution patching. Memory: prompts x nodes. Cost: a gradient a prompt.
    """
    whole = splice.with_nodes(splice.nodes, non_nodes="kept")
    count, advance = len(splice.examples), begin("attribution profiles", len(splice.examples))
    found = torch.zeros(count, len(splice.nodes))
    for row in range(count):
        leaf = torch.ones(len(splice.nodes), device=splice.model.device, requires_grad=True)
        rows = slice(row, row + 1)
        metric = spliced_metric(whole, whole.outputs(leaf, rows), rows)
        found[row] = torch.autograd.grad(metric.sum(), leaf)[0]
        advance(1, "")
    return found / found.norm(dim=1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def clustered(training: Float[Tensor, "prompt node"], held_out: Float[Tensor, "other node"]) -> Grouping:
    """Clusters of the training prompts' profiles by average linkage of cosine distances, of those numbers of clusters
    in CLUSTERS the one of the largest silhouette; held-out prompts go to the nearest mean profile.

    Raises:
        UsageError: no number of clusters leaves each `LEAST` prompts.
    """
    distances = (1 - training.double() @ training.double().T).clamp(min=0).fill_diagonal_(0)
    above = distances[*torch.triu_indices(len(distances), len(distances), 1)]
    tree = linkage(above.numpy(), method="average") if len(training) > 1 else None
    best: tuple[float, np.ndarray] | None = None
    for count in CLUSTERS:
        if tree is None:
            break
        cut = fcluster(tree, count, criterion="maxclust") - 1
        sizes = np.bincount(cut)
        if len(sizes) < 2 or sizes.min() < LEAST:
            continue
        value = silhouette(distances, torch.from_numpy(cut))
        if best is None or value > best[0]:
            best = value, cut
    if best is None:
        raise UsageError(
            f"families by profile: clusters of at least {LEAST} of the {len(training)} training prompts expected, "
            "found none; the prompts use the latents alike: give more prompts, or use template, case or roles"
        )
    value, cut = best
    means = torch.stack([training[torch.from_numpy(cut == number)].mean(dim=0) for number in range(cut.max() + 1)])
    nearest = (held_out @ (means / means.norm(dim=1, keepdim=True)).T).argmax(dim=1)
    names = [tuple(f"cluster {number + 1}" for number in one.tolist()) for one in (cut, nearest)]
    return Grouping(names[0], names[1], value)


def silhouette(distances: Float[Tensor, "prompt prompt"], cut: Tensor) -> float:
    """Mean over items of (b - a) / max(a, b): a the mean distance within its cluster, b to the nearest other one.

    An item alone in its cluster counts 0 (Rousseeuw 1987).
    """
    count = int(cut.max()) + 1
    members = torch.nn.functional.one_hot(cut.long(), count).to(distances)
    sums, sizes = distances @ members, members.sum(dim=0)
    own = sizes[cut]
    within = sums.gather(1, cut.long()[:, None]).squeeze(1) / (own - 1).clamp(min=1)
    others = (sums / sizes).scatter(1, cut.long()[:, None], torch.inf).min(dim=1).values
    value = (others - within) / torch.maximum(others, within).clamp(min=torch.finfo(distances.dtype).tiny)
    return float(torch.where(own > 1, value, 0).mean())
