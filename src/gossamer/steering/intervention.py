"""Interventions on what stands at a site: x <- x + delta(x), one function each, on one immutable type.

With u = v / |v|, a the activation of feature f, d its decoder row in the scale of the model, and c the coefficient:

=========================  ========================  ==============================================================
intervention               delta                     source
=========================  ========================  ==============================================================
add                        c v                       AxBench's addition with v a decoder row (Wu et al. 2025)
act_add                    c (h+ - h-)[p] at p       Turner et al. 2023: a vector for each position of the prompt
feature_add                c d
clamp                      (c - a) d                 Templeton et al. 2024; at every token, also where a = 0
conditional_clamp          (c - a) d if a > 0        Farrell et al. 2024
floor                      (max(a, c) - a) d         AxBench's minimum clamping
cap                        (min(a, c) - a) d
scale                      (c - 1) a d               c = 0 ablates
project_out                -(x . u) u                no coefficient
orthogonal_decomposition   (c - 1) (x . u) u         Neuronpedia
replace_component          (c - x . u) u
replace_activation         (c - ReLU(x . v)) v       AxBench's clamping of dense vectors
projection_cap             -max(x . u - c, 0) u      Neuronpedia
=========================  ========================  ==============================================================

All that concern a feature leave the dictionary's error where it is: clamp is dec(a with a_f := c) + error, exactly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.finite import require_finite
from gossamer.model.site import Site, SiteLike
from gossamer.steering.coefficient import Coefficient, coefficient

Delta = Callable[[Tensor, Tensor, Tensor], Tensor]
Change = Callable[[Tensor, Tensor], Tensor]


def _projection(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """x . u with a last axis of one, and u."""
    u = v / v.norm(dim=-1, keepdim=True)
    return (x * u).sum(dim=-1, keepdim=True), u


def _orthogonal_decomposition(x: Tensor, v: Tensor, c: Tensor) -> Tensor:
    along, u = _projection(x, v)
    return (c - 1) * along * u


def _replace_component(x: Tensor, v: Tensor, c: Tensor) -> Tensor:
    along, u = _projection(x, v)
    return (c - along) * u


def _projection_cap(x: Tensor, v: Tensor, c: Tensor) -> Tensor:
    along, u = _projection(x, v)
    return -(along - c).clamp(min=0) * u


# delta of x, v and c, which broadcast.
DENSE: dict[str, Delta] = {
    "add": lambda x, v, c: (c * v).expand_as(x),
    "act_add": lambda x, v, c: (c * v).expand_as(x),
    "project_out": lambda x, v, c: _orthogonal_decomposition(x, v, torch.zeros_like(c)),
    "orthogonal_decomposition": _orthogonal_decomposition,
    "replace_component": _replace_component,
    "replace_activation": lambda x, v, c: (c - (x * v).sum(dim=-1, keepdim=True).clamp(min=0)) * v,
    "projection_cap": _projection_cap,
}
# Change of the activation a, at the coefficient c.
OF_LATENT: dict[str, Change] = {
    "feature_add": lambda a, c: c.expand_as(a),
    "clamp": lambda a, c: c - a,
    "conditional_clamp": lambda a, c: torch.where(a > 0, c - a, 0.0),
    "floor": lambda a, c: (c - a).clamp(min=0),
    "cap": lambda a, c: (c - a).clamp(max=0),
    "scale": lambda a, c: (c - 1) * a,
}
KINDS = (*DENSE, *OF_LATENT)


@dataclass(frozen=True)
class Positions:
    """Where in a row an intervention acts, in absolute positions: real tokens counted from 0, whatever is cached.

    Attributes:
        start, stop: first position, and the one behind the last; None: no end.
        after_prompt: whether they count from the end of each row's prompt instead, 0 being the first new token.
    """

    start: int = 0
    stop: int | None = None
    after_prompt: bool = False

    def __post_init__(self) -> None:
        if not self.after_prompt and self.start < 0:
            raise UsageError(f"positions: a start from 0 on expected, found {self.start}")
        if self.stop is not None and self.stop <= self.start:
            raise UsageError(f"positions: a stop behind the start expected, found {self.start} to {self.stop}")

    def mask(
        self, where: Int[Tensor, "batch pos"], prompt_lengths: Int[Tensor, "batch"] | None
    ) -> Bool[Tensor, "batch pos"]:
        """True where the intervention acts; `where` are absolute positions, -1 at padding.

        Raises:
            UsageError: positions after the prompt without the prompts' lengths, or lengths of other rows.
        """
        counted = where
        if self.after_prompt:
            if prompt_lengths is None or len(prompt_lengths) != len(where):
                found = "none" if prompt_lengths is None else str(len(prompt_lengths))
                raise UsageError(
                    f"positions after the prompt: prompt_lengths of {len(where)} rows expected, found {found}"
                )
            counted = where - prompt_lengths.to(where)[:, None]
        inside = (where >= 0) & (counted >= self.start)
        return inside if self.stop is None else inside & (counted < self.stop)


EVERYWHERE = Positions()
NEW_TOKENS = Positions(after_prompt=True)


@dataclass(frozen=True, eq=False)
class Condition:
    """Tokens at which something is the case; an intervention with a gate acts at these alone.

    Attributes:
        site: where it is read; the intervention's own site or an earlier one.
        threshold: above which a token passes.
        vector: a condition vector g: cos(x, projection of x on g), which is |x . g| / |x| |g|, is compared (conditional
            activation steering, Lee et al. 2024).
        latent, dictionary: instead, the activation of a feature is compared.
    """

    site: Site
    threshold: float
    vector: Float[Tensor, "d"] | None = None
    latent: int | None = None
    dictionary: Dictionary | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if (self.vector is None) == (self.latent is None or self.dictionary is None):
            raise UsageError("gate: either a condition vector or a latent with its dictionary expected")

    def passes(self, x: Float[Tensor, "*rows d"]) -> Bool[Tensor, "*rows"]:
        """Which tokens pass."""
        if self.dictionary is not None:
            column = torch.tensor([self.latent], device=x.device)
            return self.dictionary.encode_dense(x, column)[..., 0] > self.threshold
        assert self.vector is not None
        along, _ = _projection(x, self.vector.to(x))
        return along[..., 0].abs() / x.norm(dim=-1).clamp(min=torch.finfo(x.dtype).tiny) > self.threshold


@dataclass(frozen=True, eq=False)
class Intervention:
    """x <- x + delta(x) at a site; made by the functions of this module, one for each kind.

    Attributes:
        kind: one of `KINDS`.
        site: where.
        vector: v; for a feature its decoder row; for act_add one row a position of the prompt.
        coefficient: c, with its unit.
        positions: at which absolute positions.
        latent, dictionary: the feature, for the kinds that concern one.
        gate: at which tokens only; None: at all.
    """

    kind: str
    site: Site
    vector: Float[Tensor, "*prompt d"]
    coefficient: Coefficient
    positions: Positions = EVERYWHERE
    latent: int | None = None
    dictionary: Dictionary | None = None
    gate: Condition | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"intervention: one of {', '.join(KINDS)} expected, found {self.kind!r}")
        if not self.site.facts.holds_dictionary:
            raise UsageError(f"steering at {self.site}: a site with one vector a token expected, as resid_post.3")
        require_finite(self.vector, f"steering vector at {self.site}")
        if self.vector.ndim != (2 if self.kind == "act_add" else 1):
            raise UsageError(f"{self.kind}: a vector expected (act_add: one a position), found {self.vector.ndim} axes")
        if not float(self.vector.norm()) > 0:
            raise UsageError(f"{self.kind} at {self.site}: a vector of some length expected, found zeros")
        if self.gate is not None and self.gate.site > self.site:
            raise UsageError(f"gate: a site not behind {self.site} expected, found {self.gate.site}")

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.kind} {'a vector' if self.feature is None else self.feature} at {self.site}"
        yield f"c {self.coefficient}"
        if self.positions != EVERYWHERE:
            yield str(self.positions)
        if self.gate is not None:
            yield f"where {self.gate.site} passes a gate"

    @property
    def feature(self) -> Feature | None:
        """The feature, where the intervention concerns one."""
        return None if self.latent is None else Feature(self.site, self.latent)

    def at(self, value: "float | Coefficient") -> "Intervention":
        """The same with another coefficient."""
        return replace(self, coefficient=coefficient(value))

    def where(self, positions: Positions) -> "Intervention":
        """The same at other positions."""
        return replace(self, positions=positions)

    def gated(self, gate: Condition) -> "Intervention":
        """The same at the tokens that pass a gate only."""
        return replace(self, gate=gate)


def add(site: SiteLike, vector: Float[Tensor, "d"], c: float | Coefficient) -> Intervention:
    """c v at every token."""
    return Intervention("add", Site.of(site), vector, coefficient(c))


def act_add(site: SiteLike, rows: Float[Tensor, "prompt d"], c: float | Coefficient) -> Intervention:
    """c (h+ - h-)[p] at position p of the prompt, which has to be as long (Turner et al. 2023, arXiv 2308.10248)."""
    return Intervention("act_add", Site.of(site), rows, coefficient(c))


def feature_add(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """c d at every token, d the feature's decoder row."""
    return _of_latent("feature_add", dictionary, latent, c)


def clamp(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """The feature's activation set to c at every token, also where it is off; the error is kept."""
    return _of_latent("clamp", dictionary, latent, c)


def conditional_clamp(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """The same where the feature is active."""
    return _of_latent("conditional_clamp", dictionary, latent, c)


def floor(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """The activation raised to c where it is lower."""
    return _of_latent("floor", dictionary, latent, c)


def cap(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """The activation lowered to c where it is higher."""
    return _of_latent("cap", dictionary, latent, c)


def scale(dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    """The activation multiplied by c; 0 ablates. Nothing happens where the feature is off."""
    return _of_latent("scale", dictionary, latent, c)


def project_out(site: SiteLike, vector: Float[Tensor, "d"]) -> Intervention:
    """The component along v removed."""
    return Intervention("project_out", Site.of(site), vector, Coefficient(0.0))


def orthogonal_decomposition(site: SiteLike, vector: Float[Tensor, "d"], c: float | Coefficient) -> Intervention:
    """The component along v multiplied by c, what is orthogonal to it kept."""
    return Intervention("orthogonal_decomposition", Site.of(site), vector, coefficient(c))


def replace_component(site: SiteLike, vector: Float[Tensor, "d"], c: float | Coefficient) -> Intervention:
    """The component along v set to c."""
    return Intervention("replace_component", Site.of(site), vector, coefficient(c))


def replace_activation(site: SiteLike, vector: Float[Tensor, "d"], c: float | Coefficient) -> Intervention:
    """(c - ReLU(x . v)) v: v is its own detector, as AxBench clamps dense vectors."""
    return Intervention("replace_activation", Site.of(site), vector, coefficient(c))


def projection_cap(site: SiteLike, vector: Float[Tensor, "d"], c: float | Coefficient) -> Intervention:
    """The component along v lowered to c where it is larger."""
    return Intervention("projection_cap", Site.of(site), vector, coefficient(c))


def _of_latent(kind: str, dictionary: Dictionary, latent: int, c: float | Coefficient) -> Intervention:
    dictionary.require_reconstruction("steering a feature")
    if dictionary.site is None:
        raise UsageError("steering: a dictionary that says which site it reads expected; load it with site=")
    if not 0 <= latent < dictionary.n_latents:
        raise UsageError(f"{dictionary.site}/{latent}: a latent from 0 to {dictionary.n_latents - 1} expected")
    row = dictionary.W_dec[latent].detach()
    return Intervention(kind, dictionary.site, row, coefficient(c), latent=latent, dictionary=dictionary)
