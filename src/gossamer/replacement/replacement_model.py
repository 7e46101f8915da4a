"""The model with dictionaries in its stream: one place for what passes through, for errors and for edits of latents."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gossamer.batching import distinct_rows
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.past import Past
from gossamer.model.site import BySite, Site, SiteLike
from gossamer.tokens import Tokens

ErrorPolicy = Literal["mean", "drop", "keep"]
# What stands at a site from now on, as a function of what stands there: (batch pos d) in, (batch pos d) out.
Reconstruct = Callable[[Site, Tensor], Tensor]
LatentEdit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReplacementModel:
    """`model` in which dictionaries stand in for the values they read.

    At the tokens that are replaced the value x of a site becomes ``dec(edit(enc(x))) + error(x)``; all others (BOS,
    padding, attention sinks) pass through untouched. Every later dictionary reads the already modified stream. No
    weight of the model gets a gradient.

    Attributes:
        model: the language model.
        dictionaries: one for each site, in execution order; anything with `encode`, `encode_dense` and `reconstruct`.
        errors: what stands in for the reconstruction error: nothing ("drop"), the exact error of the present value
            ("keep": without edits the dictionary is then the identity), or a mean error ("mean").
        mean_errors: the mean error of each site, for "mean".

    Raises:
        UsageError: no dictionaries, dictionaries out of execution order, a transcoder, a site that cannot be replaced,
            an unknown policy, or "mean" without the mean errors.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    errors: str = "drop"
    mean_errors: Mapping[Site, Float[Tensor, "*group d"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.dictionaries:
            raise UsageError("a replacement model needs at least one dictionary, found none")
        # The network resumes at the first of them: a site before it would be passed over in silence.
        if list(self.dictionaries) != sorted(self.dictionaries):
            raise UsageError(
                f"dictionaries in execution order expected ({', '.join(map(str, sorted(self.dictionaries)))}), "
                f"found {', '.join(map(str, self.dictionaries))}; put them in a DictionarySet"
            )
        if self.errors not in get_args(ErrorPolicy):
            raise UsageError(f"errors: one of {', '.join(get_args(ErrorPolicy))} expected, found {self.errors!r}")
        if self.errors == "mean" and not set(self.dictionaries) <= set(self.mean_errors):
            raise UsageError("errors='mean' needs the mean error of every site; measure them, or use 'drop' or 'keep'")
        for dictionary in self.dictionaries.values():
            dictionary.require_reconstruction("replacing what it reads")
        resumable(next(iter(self.dictionaries)))

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield listed(self.dictionaries)
        yield f"errors={self.errors!r}"

    @property
    def start(self) -> Site:
        """The residual site from which the model runs; nothing before it changes."""
        return resumable(next(iter(self.dictionaries)))

    def with_sites(self, sites: Iterable[SiteLike]) -> "ReplacementModel":
        """The same model with the dictionaries of some of the sites only."""
        chosen = set(map(Site.of, sites))
        return replace(self, dictionaries={site: one for site, one in self.dictionaries.items() if site in chosen})

    def prefix(self, tokens: Tokens) -> Float[Tensor, "batch pos d"]:
        """The stream at :attr:`start`."""
        return self.model.capture(tokens, [self.start])[self.start]

    def reconstruct(
        self, site: Site, x: Float[Tensor, "batch pos d"], edit: LatentEdit | None = None
    ) -> Float[Tensor, "batch pos d"]:
        """What stands at `site` in place of `x`: latents after `edit`, decoded, with the error of the policy.

        `edit` takes and returns dense latents (batch pos n). Memory: those latents, where there is an edit.
        """
        dictionary = self.dictionaries[site]
        if edit is not None:
            return self.with_error(site, x, dictionary.reconstruct(x, edit(dictionary.encode_dense(x))))
        # With its exact error added back a dictionary is the identity: nothing needs to be encoded.
        return x if self.errors == "keep" else self.with_error(site, x, dictionary.reconstruct(x, dictionary.encode(x)))

    def with_error(
        self, site: Site, x: Float[Tensor, "batch pos d"], out: Float[Tensor, "batch pos d"], mean: Tensor | None = None
    ) -> Float[Tensor, "batch pos d"]:
        """A reconstruction with what the policy has in place of its error; `mean` instead of the site's own mean."""
        if self.errors == "keep":
            dictionary = self.dictionaries[site]
            return out + x - dictionary.reconstruct(x, dictionary.encode_dense(x))
        if self.errors == "mean":
            return out + (self.mean_errors[site] if mean is None else mean).to(out.dtype)
        return out

    def logits(
        self,
        tokens: Tokens,
        replaced: Bool[Tensor, "batch pos"],
        *,
        at: Int[Tensor, "batch"] | None = None,
        prefix: Float[Tensor, "batch pos d"] | None = None,
        reconstruct: Reconstruct | None = None,
    ) -> Float[Tensor, "..."]:
        """Logits at all positions (batch pos vocab), or at one position a row (batch vocab).

        Args:
            tokens: the prompts.
            replaced: at which tokens dictionaries stand in; the others pass through.
            at: positions, see :meth:`LanguageModel.logits`.
            prefix: the stream at :attr:`start`, where it is known: the layers before it then do not run.
            reconstruct: what to put in place of a site's value; default :meth:`reconstruct`.
        """
        with self._replacing(tokens, replaced, prefix, reconstruct) as stream:
            return self.model.resume(self.start, stream, tokens, at=at)

    def capture(
        self,
        tokens: Tokens,
        replaced: Bool[Tensor, "batch pos"],
        sites: Sequence[SiteLike],
        *,
        prefix: Float[Tensor, "batch pos d"] | None = None,
        reconstruct: Reconstruct | None = None,
        past: Past | None = None,
    ) -> BySite[Tensor]:
        """Values of later `sites` with the dictionaries in; at a dictionary's own site, what it writes there.

        With `past` the pass runs on the positions that it does not hold; `replaced` and `prefix` are of these.
        """
        wanted = list(map(Site.of, sites))
        later = [site for site in wanted if site != self.start]
        with self._replacing(tokens, replaced, prefix, reconstruct) as stream:
            found = self.model.capture(tokens, later, start=(self.start, stream), past=past) if later else {}
        return BySite((site, stream if site == self.start else found[site]) for site in wanted)

    def capture_ablated(
        self,
        tokens: Tokens,
        replaced: Bool[Tensor, "batch pos"],
        site: SiteLike,
        values: Mapping[Site, Float[Tensor, "d"]],
        prefix: Float[Tensor, "batch pos d"],
    ) -> Float[Tensor, "batch pos d"]:
        """What a later `site` holds with one value, that of `values`, in place of what each dictionary would read.

        Such rows often differ in nothing from the first dictionary on: of equal length, and all replaced but a BOS.
        The layers after it run once for rows that are equal there to the bit.
        """

        def constant(site: Site, x: Tensor) -> Tensor:
            return values[site].to(x).expand_as(x)

        if self.start in self.dictionaries:
            prefix = _replaced(constant, self.start, replaced, prefix)
        mask = tokens.mask.to(prefix.device)
        # No token reads what stands at padding.
        first, kind = distinct_rows(prefix.masked_fill(~mask.unsqueeze(-1), 0.0), mask, replaced.to(prefix.device))
        rows = first.to(replaced.device)
        found = self.capture(tokens[rows], replaced[rows], [site], prefix=prefix[first], reconstruct=constant)
        return next(iter(found.values()))[kind]

    @contextlib.contextmanager
    def _replacing(
        self,
        tokens: Tokens,
        replaced: Bool[Tensor, "batch pos"],
        prefix: Tensor | None,
        reconstruct: Reconstruct | None,
    ) -> Iterator[Float[Tensor, "batch pos d"]]:
        """Edits at every site but the one that the model starts from, whose new value is yielded."""
        chosen = reconstruct or self.reconstruct
        edits = {site: partial(_replaced, chosen, site, replaced) for site in self.dictionaries}
        first = edits.pop(self.start, None)
        with frozen_weights(self.model.hf):
            stream = self.prefix(tokens) if prefix is None else prefix
            with self.model.edit(edits):
                yield stream if first is None else first(stream)


def _replaced(reconstruct: Reconstruct, site: Site, replaced: Bool[Tensor, "batch pos"], x: Tensor) -> Tensor:
    return torch.where(replaced.to(x.device).unsqueeze(-1), reconstruct(site, x).to(x.dtype), x)


def resumable(site: Site) -> Site:
    """The residual site from which a pass can be resumed so that it still reaches `site`.

    Raises:
        UsageError: there is none before it.
    """
    if site.facts.resumable:
        return site
    if site.layer is None:
        raise UsageError(f"dictionaries on {site} cannot be spliced: expected a site inside a layer")
    return replace(site, kind="resid_pre")


@contextlib.contextmanager
def frozen_weights(module: nn.Module) -> Iterator[None]:
    """No gradients for the module's weights while inside: a mask's gradient then keeps no inputs of linear layers."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
