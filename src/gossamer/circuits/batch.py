"""Some of a task's prompts as one pass of a network with dictionaries sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import short_repr
from gossamer.model.past import Past
from gossamer.model.site import Site
from gossamer.tokens import Tokens


@dataclass(frozen=True)
class Batch:
    """Rows of the examples as one network pass sees them, trimmed to their longest prompt.

    Attributes:
        counterfactual, resampled: of resample ablation, see :class:`gossamer.circuits.spliced_prompts.Shared`.
        errors: at sites with error nodes, how far each prompt's error is from what stands in for it where it is no
            node of the circuit (see :class:`gossamer.circuits.splice.Splice`).
        past: keys and values of the positions before those that the pass runs on; all but the tokens then begin there.
            The pass adds its own. None: it runs on all positions and keeps nothing.
    """

    tokens: Tokens
    roles: Int[Tensor, "batch pos"]
    ablation_groups: Int[Tensor, "batch pos"]
    answer_position: Int[Tensor, "batch"]
    stream: Float[Tensor, "batch pos d"]
    counterfactual: Mapping[Site, Float[Tensor, "batch pos d"]]
    resampled: Mapping[Site, Float[Tensor, "batch pos d"]]
    errors: Mapping[Site, Float[Tensor, "batch pos d"]] = field(default_factory=dict)
    past: Past | None = None

    __repr__ = short_repr

    @property
    def replaced(self) -> Bool[Tensor, "batch pos"]:
        """Tokens at which dictionaries stand in; BOS and padding pass through."""
        return self.roles >= 0

    def select(self, rows: Int[Tensor, "rows"]) -> "Batch":
        """Some of the rows."""
        return Batch(
            self.tokens[rows],
            self.roles[rows],
            self.ablation_groups[rows],
            self.answer_position[rows],
            self.stream[rows],
            {site: stream[rows] for site, stream in self.counterfactual.items()},
            {site: decoded[rows] for site, decoded in self.resampled.items()},
            {site: error[rows] for site, error in self.errors.items()},
        )

    def at_answer(self) -> "Batch":
        """What a site sees of each prompt's answer position: one position a row; no pass can be run on it."""
        rows = torch.arange(len(self.answer_position), device=self.answer_position.device)

        def there(values: Tensor) -> Tensor:
            return values[rows, self.answer_position].unsqueeze(1)

        return Batch(
            self.tokens,
            there(self.roles),
            there(self.ablation_groups),
            torch.zeros_like(self.answer_position),
            there(self.stream),
            {site: there(stream) for site, stream in self.counterfactual.items()},
            {site: there(decoded) for site, decoded in self.resampled.items()},
            {site: there(error) for site, error in self.errors.items()},
        )

    def after(self, past: Past) -> "Batch":
        """The positions after those of `past`, which the prompts' answers must not be among."""
        done = past.length
        return Batch(
            self.tokens,
            self.roles[:, done:],
            self.ablation_groups[:, done:],
            self.answer_position - done,
            self.stream[:, done:],
            {site: stream[:, done:] for site, stream in self.counterfactual.items()},
            {site: decoded[:, done:] for site, decoded in self.resampled.items()},
            {site: error[:, done:] for site, error in self.errors.items()},
            past,
        )
