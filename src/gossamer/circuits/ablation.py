"""What an ablated latent is moved to, and what stands in for the dictionaries' reconstruction error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ErrorPolicy
from gossamer.tasks.task import Task, TokenizedPrompts

AblationKind = Literal["mean", "zero", "resample"]
# Where an ablated latent goes, for readers, and why it does.
DESCRIBED = {
    "mean": "to its mean over the counterfactuals of the training prompts, token by token of a template; the default",
    "zero": "to zero, as asked for",
    "resample": "to what it is on the prompt's own counterfactual, as asked for",
}


@dataclass(frozen=True)
class SiteAblation:
    """Ablation values of one site.

    Attributes:
        latents: mean latents of every ablation group; None when latents go to zero or to the counterfactual's own
            value.
        error: mean reconstruction error of every ablation group, added to each reconstruction; None unless the policy
            is "mean".
    """

    latents: Float[Tensor, "group latent"] | None
    error: Float[Tensor, "group d"] | None

    __repr__ = short_repr


@dataclass(frozen=True)
class Ablation:
    """How to ablate: kind, error policy and the values measured on the training counterfactuals.

    An ablation group is a (template, role, offset) of the task: means are taken over aligned tokens only, each token
    counted once (the published running mean is recency-weighted; this is a true mean). Memory: ablation groups x
    latents floats for each site.
    """

    kind: AblationKind
    errors: ErrorPolicy
    sites: Mapping[Site, SiteAblation]

    __repr__ = short_repr

    @classmethod
    def measure(
        cls,
        model: LanguageModel,
        dictionaries: Mapping[Site, Dictionary],
        task: Task,
        *,
        kind: AblationKind = "mean",
        errors: ErrorPolicy = "mean",
        batch_size: int = 64,
    ) -> "Ablation":
        """Measure the values on the model's own stream over the counterfactuals of `task.train`.

        Raises:
            UsageError: an unknown kind or policy, "resample" for prompts not aligned with their counterfactuals, or a
                transcoder.
        """
        _check(kind, errors, task)
        for dictionary in dictionaries.values():
            dictionary.require_reconstruction("ablation")
        needs_latents, needs_error = kind == "mean", errors == "mean"
        if not needs_latents and not needs_error:
            return cls(kind, errors, {site: SiteAblation(None, None) for site in dictionaries})
        sums = _group_sums(model, dictionaries, task.train.counterfactual, len(task.ablation_group_names), batch_size)
        values = {
            site: SiteAblation(latents if needs_latents else None, error if needs_error else None)
            for site, (latents, error) in sums.items()
        }
        return cls(kind, errors, values)


def _check(kind: str, errors: str, task: Task) -> None:
    if kind not in get_args(AblationKind) or errors not in get_args(ErrorPolicy):
        raise UsageError(
            f"ablation must be one of {', '.join(get_args(AblationKind))} and errors one of "
            f"{', '.join(get_args(ErrorPolicy))}; found ablation={kind!r}, errors={errors!r}"
        )
    if kind == "resample" and not (task.train.aligned and task.test.aligned):
        raise UsageError(
            "ablation resample needs every prompt aligned token by token with its counterfactual; use ablation mean"
        )


def _group_sums(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    prompts: TokenizedPrompts,
    n_slots: int,
    batch_size: int,
) -> dict[Site, tuple[Tensor, Tensor]]:
    """Mean latents [group, latent] and mean error [group, d] of each site, over every token that has a role."""
    counts = torch.zeros(n_slots, dtype=torch.float64, device=model.device)
    latents = {site: torch.zeros(n_slots, d.n_latents, device=model.device) for site, d in dictionaries.items()}
    errors = {site: torch.zeros(n_slots, model.width(site), device=model.device) for site in dictionaries}

    def add(rows: slice) -> None:
        tokens = prompts.tokens[rows].to(model.device)
        streams = model.capture(tokens, list(dictionaries))
        kept = prompts.roles[rows].to(model.device) >= 0
        ablation_groups = prompts.ablation_groups[rows].to(model.device)[kept]
        found = {site: _encode(dictionary, site, streams[site][kept]) for site, dictionary in dictionaries.items()}
        # Sums change only once every site is through, so that a batch that runs out of memory can be retried.
        for site, (encoded, error) in found.items():
            latents[site].index_add_(0, ablation_groups, encoded)
            errors[site].index_add_(0, ablation_groups, error)
        counts.index_add_(0, ablation_groups, torch.ones_like(ablation_groups, dtype=torch.float64))

    with torch.no_grad():
        in_batches(len(prompts.tokens), batch_size, add)
    weight = (1 / counts.clamp(min=1)).float()[:, None]
    return {site: (latents[site] * weight, errors[site] * weight) for site in dictionaries}


def _encode(dictionary: Dictionary, site: Site, x: Float[Tensor, "token d"]) -> tuple[Tensor, Tensor]:
    require_finite(x, str(site))
    latents = dictionary.encode_dense(x)
    return latents.float(), (x - dictionary.reconstruct(x, latents)).float()


def group_rows(table: Float[Tensor, "group *width"], ablation_groups: Int[Tensor, "batch pos"]) -> Tensor:
    """Rows of a table of groups for every token; tokens without a group get row 0, which the caller overwrites."""
    return torch.nn.functional.embedding(ablation_groups.clamp(min=0), table)
