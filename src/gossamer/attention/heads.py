"""Which heads a latent of z is of: by what it writes, and by what it was made of on a text."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.attention.direct import direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site


@dataclass(frozen=True, eq=False)
class HeadShares:
    """Shares of the heads in every latent of a dictionary on z; each latent's sum to 1 (0 where nothing is known).

    Attributes:
        site: where the dictionary reads.
        decoder: by the norm of the decoder's part of each head (Kissane et al. 2024). A head whose output projection is
            large counts no more than one whose is small.
        output: by the norm of what the part of each head adds to the stream, after W_O.
        activation: by the mean size of each head's part of the pre-activation, over tokens at which the latent was
            active; None without a text.
    """

    site: Site
    decoder: Float[Tensor, "n heads"]
    output: Float[Tensor, "n heads"]
    activation: Float[Tensor, "n heads"] | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.site)
        yield f"{self.decoder.shape[0]} latents of {self.decoder.shape[1]} heads"
        for name, value in self.agreement.items():
            yield f"{name}: rank correlation {value:.2f}"

    @property
    def agreement(self) -> dict[str, float]:
        """Spearman's rank correlation of the kinds of shares, over the latents for which both are known, and heads."""
        kinds = {"decoder": self.decoder, "output": self.output}
        if self.activation is not None:
            kinds["activation"] = self.activation
        found = {}
        names = list(kinds)
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                known = (kinds[name].sum(dim=1) > 0) & (kinds[other].sum(dim=1) > 0)
                pairs = (kinds[one][known].flatten().cpu().numpy() for one in (name, other))
                found[f"{name} and {other}"] = float(spearmanr(*pairs).statistic) if known.any() else float("nan")
        return found

    def top(self, head: int, n: int = 10, *, by: str = "output") -> list[tuple[Feature, float]]:
        """The latents of which a head has the largest share, with their shares.

        Raises:
            UsageError: no such head, or no shares of that kind.
        """
        shares: Tensor | None = {"decoder": self.decoder, "output": self.output, "activation": self.activation}.get(by)
        if shares is None:
            raise UsageError(f"shares: decoder, output or (with a text) activation expected, found {by!r}")
        if not 0 <= head < shares.shape[1]:
            raise UsageError(f"head: one of 0 to {shares.shape[1] - 1} expected, found {head}")
        values, latents = shares[:, head].topk(min(n, len(shares)))
        return [
            (Feature(self.site, latent), value) for latent, value in zip(latents.tolist(), values.tolist(), strict=True)
        ]


@torch.no_grad()
def head_shares(model: LanguageModel, dictionary: Dictionary, frozen: FrozenPass | None = None) -> HeadShares:
    """Shares of heads in every latent of a dictionary on z.

    Memory: n x d_model numbers of one head at a time.

    Args:
        model: the language model.
        dictionary: a dictionary on z.
        frozen: a pass over some text with this dictionary, for shares by activation.

    Raises:
        UsageError: the dictionary reads another kind of site, or the pass has none there.
    """
    site = dictionary.site
    if site is None or site.kind != "z":
        raise UsageError(f"heads of latents: a dictionary on z expected, found one at {site}")
    weights = model.attention_weights(site.layer or 0)
    rows = torch.unflatten(dictionary.W_dec.float(), -1, (model.n_heads, -1))
    written = [rows[:, head] @ weights.W_O[head].float() for head in range(model.n_heads)]
    output = torch.stack([one.norm(dim=1) for one in written], dim=1)
    made_of = None if frozen is None else _made_of(frozen, site, dictionary.n_latents)
    return HeadShares(site, _shares(rows.norm(dim=2)), _shares(output), made_of)


def _made_of(frozen: FrozenPass, site: Site, n: int) -> Float[Tensor, "n heads"]:
    found = direct_attribution(frozen, site)
    sizes: Float[Tensor, "entries heads"] = found.by_head.abs()
    total = sizes.new_zeros(n, sizes.shape[1])
    return _shares(total.index_add(0, found.latents, sizes))


def _shares(sizes: Float[Tensor, "n heads"]) -> Float[Tensor, "n heads"]:
    return sizes / sizes.sum(dim=1, keepdim=True).clamp(min=torch.finfo(sizes.dtype).tiny)
