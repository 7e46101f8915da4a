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
from gossamer.tasks.task import Encoded, Task

AblationKind = Literal["mean", "zero", "resample"]


@dataclass(frozen=True)
class SiteAblation:
    """Ablation values of one site.

    Attributes:
        latents: mean latents of every slot; None when latents go to zero or to the counterfactual's own value.
        error: mean reconstruction error of every slot, added to each reconstruction; None unless the policy is "mean".
    """

    latents: Float[Tensor, "slot latent"] | None
    error: Float[Tensor, "slot d"] | None

    __repr__ = short_repr


@dataclass(frozen=True)
class Ablation:
    """How to ablate: kind, error policy and the values measured on the training counterfactuals.

    A slot is a (template, role, offset) of the task: means are taken over aligned tokens only, each token counted once
    (the published running mean is recency-weighted; this is a true mean). Memory: slots x latents floats for each site.
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
        sums = _slot_sums(model, dictionaries, task.train.counterfactual, len(task.slot_names), batch_size)
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


def _slot_sums(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], prompts: Encoded, n_slots: int, batch_size: int
) -> dict[Site, tuple[Tensor, Tensor]]:
    """Mean latents [slot, latent] and mean error [slot, d] of each site, over every token that has a role."""
    counts = torch.zeros(n_slots, dtype=torch.float64, device=model.device)
    latents = {site: torch.zeros(n_slots, d.n_latents, device=model.device) for site, d in dictionaries.items()}
    errors = {site: torch.zeros(n_slots, model.width(site), device=model.device) for site in dictionaries}

    def add(rows: slice) -> None:
        tokens = prompts.tokens[rows].to(model.device)
        streams = model.capture(tokens, list(dictionaries))
        kept = prompts.roles[rows].to(model.device) >= 0
        slots = prompts.slots[rows].to(model.device)[kept]
        found = {site: _encode(dictionary, site, streams[site][kept]) for site, dictionary in dictionaries.items()}
        # Sums change only once every site is through, so that a batch that runs out of memory can be retried.
        for site, (encoded, error) in found.items():
            latents[site].index_add_(0, slots, encoded)
            errors[site].index_add_(0, slots, error)
        counts.index_add_(0, slots, torch.ones_like(slots, dtype=torch.float64))

    with torch.no_grad():
        in_batches(len(prompts.tokens), batch_size, add)
    weight = (1 / counts.clamp(min=1)).float()[:, None]
    return {site: (latents[site] * weight, errors[site] * weight) for site in dictionaries}


def _encode(dictionary: Dictionary, site: Site, x: Float[Tensor, "token d"]) -> tuple[Tensor, Tensor]:
    require_finite(x, str(site))
    latents = dictionary.encode_dense(x)
    return latents.float(), (x - dictionary.reconstruct(x, latents)).float()


def slot_rows(table: Float[Tensor, "slot *width"], slots: Int[Tensor, "batch pos"]) -> Tensor:
    """Rows of a slot table for every token; tokens without a slot get row 0, which the caller overwrites."""
    return torch.nn.functional.embedding(slots.clamp(min=0), table)
