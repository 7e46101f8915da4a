"""Interventions at work: in `generate`, in `logits` and in any pipeline; and what was reached, encoded again."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.finite import require_finite
from gossamer.model.editing import Edit, Pass, current, positions
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import BySite, Site
from gossamer.replacement.replacement_model import resumable
from gossamer.steering.intervention import DENSE, OF_LATENT, Condition, Intervention
from gossamer.tokens import Tokens

# Which tokens passed which gate, in one pass.
Passed = dict[Condition, Bool[Tensor, "batch pos"]]


class Steering:
    """Interventions on the rows of a batch: each row has one of several lists of interventions, so that one batch can
    hold every coefficient of a sweep. In a list, those at one site act in its order.

    Attributes:
        cells: the lists; an empty one leaves its rows as they are.
        cell_of_row: which list each row has; None: all rows have the first.
        prompt_lengths: tokens of each row's prompt, for positions that count from its end.

    Raises:
        UsageError: no list at all.
    """

    def __init__(
        self,
        cells: Sequence[Sequence[Intervention]],
        cell_of_row: Int[Tensor, "batch"] | None = None,
        prompt_lengths: Int[Tensor, "batch"] | None = None,
    ) -> None:
        if not cells:
            raise UsageError("steering: at least one list of interventions expected, found none")
        self.cells = tuple(map(tuple, cells))
        self.cell_of_row, self.prompt_lengths = cell_of_row, prompt_lengths
        every = [one for cell in self.cells for one in cell]
        self._gates = tuple(dict.fromkeys(one.gate for one in every if one.gate is not None))
        self._groups: dict[Site, list[_Group]] = {}
        for site in sorted({one.site for one in every}):
            self._groups[site] = _grouped([[one for one in cell if one.site == site] for cell in self.cells])
        self._passed: WeakKeyDictionary[Pass, Passed] = WeakKeyDictionary()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.cells), "list")
        yield f"at {listed(self.sites)}"

    @property
    def sites(self) -> list[Site]:
        """Where something is read or changed, in execution order."""
        return sorted({*self._groups, *(gate.site for gate in self._gates)})

    def edits(self) -> dict[Site, Edit]:
        """For :meth:`LanguageModel.edit`."""
        return {site: partial(self._edit, site) for site in self.sites}

    def capture(
        self, model: LanguageModel, tokens: Tokens, sites: Sequence[Site], prefix: tuple[Site, Tensor] | None = None
    ) -> BySite[Tensor]:
        """What stands at sites under these interventions.

        Args:
            prefix: :meth:`start` and the unsteered stream there, where it is known: layers before it do not run.
        """
        edits = self.edits()
        if prefix is None:
            with model.edit(edits):
                return model.capture(tokens, sites)
        start, stream = prefix
        if start in edits:
            stream = self.apply(start, stream, absolute_positions(tokens).to(stream.device), {})
            del edits[start]
        later = [site for site in sites if site != start]
        with model.edit(edits):
            found = model.capture(tokens, later, start=(start, stream)) if later else BySite()
        return BySite((site, stream if site == start else found[site]) for site in sites)

    def start(self) -> Site | None:
        """The residual site from which a pass reaches all that is steered; None: it has to run from the beginning."""
        # What a gate found at the site that a pass starts from would not be known to later sites.
        if not self.sites or any(gate.site != site for site in self._groups for gate in self._gates):
            return None
        first = self.sites[0]
        return None if first.layer is None else resumable(first)

    def apply(
        self, site: Site, x: Float[Tensor, "batch pos d"], where: Int[Tensor, "batch pos"], passed: Passed
    ) -> Float[Tensor, "batch pos d"]:
        """What stands at `site` in place of `x`; `where` are absolute positions, -1 at padding.

        Raises:
            UsageError: rows that are not those it was made for, another width, or a prompt that is too short.
            NotFiniteError: a value is not finite afterwards.
        """
        if self.cell_of_row is not None and len(self.cell_of_row) != len(x):
            raise UsageError(f"steering: {len(self.cell_of_row)} rows expected, found {len(x)}")
        passed |= {gate: gate.passes(x) for gate in self._gates if gate.site == site}
        for group in self._groups.get(site, ()):
            x = group.apply(x, where, self.cell_of_row, self.prompt_lengths, passed)
        return require_finite(x, f"{site} under steering (take a smaller coefficient)")

    def _edit(self, site: Site, x: Tensor) -> Tensor:
        run = current()
        assert run is not None
        return self.apply(site, x, positions().to(x.device), self._passed.setdefault(run, {}))


@contextlib.contextmanager
def steered(
    model: LanguageModel,
    interventions: Intervention | Sequence[Intervention],
    *,
    prompt_lengths: Int[Tensor, "batch"] | None = None,
) -> Iterator[None]:
    """Inside, everything that runs the model is steered: `generate`, `logits` and `capture` of the LanguageModel, and
    calls of the transformers model `model.hf` itself, as pipelines and evaluation harnesses make them.

    Positions are absolute and count real tokens, so that with a cache and without one the same happens.

    Args:
        interventions: one, or several that act in this order at each site.
        prompt_lengths: tokens of each row's prompt, for positions that count from its end.

    Raises:
        UsageError: the model lacks a site, or a vector has another width than it.
        NotFiniteError: on a pass, when a value is not finite.
    """
    listed_ = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    with model.edit(Steering([listed_], prompt_lengths=prompt_lengths).edits(), direct=True):
        yield


@dataclass(frozen=True)
class ReadBack:
    """One feature before and after steering, encoded from what stands at its site.

    Attributes:
        feature: the feature.
        asked: the coefficient in raw terms.
        before, after: mean activation at the tokens where the intervention may act.
        others: latents of the same dictionary whose mean activation changed most, with the change; through overlap of
            decoder rows a clamped feature moves others, and may itself end elsewhere than asked.
    """

    feature: Feature
    asked: float
    before: float
    after: float
    others: tuple[tuple[int, float], ...]

    __repr__ = short_repr


@torch.no_grad()
def read_back(
    model: LanguageModel, interventions: Intervention | Sequence[Intervention], tokens: Tokens, *, others: int = 5
) -> list[ReadBack]:
    """What each intervention on a feature did to its dictionary's latents on a text. Memory: latents of all tokens."""
    chosen = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    if not any(one.dictionary is not None for one in chosen):
        return []
    sites = sorted({one.site for one in chosen})
    before = model.capture(tokens, sites)
    with steered(model, chosen):
        after = model.capture(tokens, sites)
    found = []
    for one in chosen:
        if one.dictionary is None or one.latent is None:
            continue
        acts = one.positions.mask(absolute_positions(tokens), None)
        means = [one.dictionary.encode_dense(values[one.site][acts]).double().mean(dim=0) for values in (before, after)]
        change = (means[1] - means[0]).index_fill(0, torch.tensor(one.latent), 0.0)
        most = change.abs().topk(min(others, len(change))).indices.tolist()
        levels = [float(mean[one.latent]) for mean in means]
        moved = tuple((latent, float(change[latent])) for latent in most if change[latent] != 0)
        found.append(ReadBack(Feature(one.site, one.latent), one.coefficient.raw, levels[0], levels[1], moved))
    return found


def absolute_positions(tokens: Tokens) -> Int[Tensor, "batch pos"]:
    """Of every token, counting real ones from 0; -1 at padding."""
    return torch.where(tokens.mask, tokens.mask.cumsum(dim=1) - 1, -1)


@dataclass(frozen=True, eq=False)
class _Group:
    """Interventions of one kind, one in a cell, that are worked out together.

    `slot` says which of the vectors and strengths a cell has, -1 where it has none.
    """

    first: Intervention
    slot: Int[Tensor, "cells"]
    vectors: Float[Tensor, "members prompt d"]
    lengths: Int[Tensor, "members"]
    strengths: Float[Tensor, "members"]
    latents: Int[Tensor, "members"]

    def apply(
        self,
        x: Float[Tensor, "batch pos d"],
        where: Int[Tensor, "batch pos"],
        cell_of_row: Int[Tensor, "batch"] | None,
        prompt_lengths: Int[Tensor, "batch"] | None,
        passed: Mapping[Condition, Bool[Tensor, "batch pos"]],
    ) -> Float[Tensor, "batch pos d"]:
        if x.shape[-1] != self.vectors.shape[-1]:
            raise UsageError(
                f"steering at {self.first.site}: a vector of width {x.shape[-1]} expected, found one of "
                f"{self.vectors.shape[-1]}"
            )
        slot = self.slot[torch.zeros(len(x), dtype=torch.long) if cell_of_row is None else cell_of_row]
        rows = (slot >= 0).nonzero()[:, 0]
        whole = len(rows) == len(x)
        slot, mine = slot[rows].to(x.device), rows.to(x.device)
        part, places = (x, where) if whole else (x[mine], where[mine])
        acts = self.first.positions.mask(places, None if prompt_lengths is None else prompt_lengths[rows])
        if self.first.gate is not None:
            acts = acts & passed[self.first.gate][mine]
        changed = torch.where(acts[..., None], part + self._delta(part, places, slot), part)
        return changed if whole else x.index_copy(0, mine, changed)

    def _delta(
        self, x: Float[Tensor, "rows pos d"], places: Int[Tensor, "rows pos"], slot: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows pos d"]:
        kind = self.first.kind
        strength = self.strengths.to(x)[slot][:, None, None]
        if kind == "act_add":
            length = self.lengths.to(x.device)[slot]
            ends = places.amax(dim=1) + 1
            # A row that has ended has no position in the steps that the others still take.
            if bool((short := (ends > 0) & (ends < length)).any()):
                raise UsageError(
                    f"act_add: prompts of at least {int(length.max())} tokens expected, as it adds to so many; found "
                    f"{int(ends[short].min())}"
                )
            inside = (places >= 0) & (places < length[:, None])
            rows = self.vectors.to(x)[slot[:, None], places.clamp(0, self.vectors.shape[1] - 1)]
            return DENSE[kind](x, rows * inside[..., None], strength)
        vector = self.vectors.to(x)[slot]
        if kind in DENSE:
            return DENSE[kind](x, vector, strength)
        dictionary = self.first.dictionary
        assert dictionary is not None
        columns, column = torch.unique(self.latents.to(x.device)[slot], return_inverse=True)
        found = dictionary.encode_dense(x, columns)
        active = found.gather(-1, column[:, None, None].expand(-1, x.shape[1], 1))
        change = OF_LATENT[kind](active, self.strengths.to(active)[slot][:, None, None])
        # A decoder row is longer in the model's scale where the dictionary has normalised its input.
        _, statistics = dictionary.normalise(x)
        change = change if statistics is None else change * statistics.scale
        return change.to(x.dtype) * vector


def _grouped(cells: Sequence[Sequence[Intervention]]) -> list[_Group]:
    """The interventions of one site: first what comes first in its cell, of each kind together."""
    found = []
    for place in range(max(map(len, cells))):
        members: dict[tuple[object, ...], list[tuple[int, Intervention]]] = {}
        for number, cell in enumerate(cells):
            if place < len(cell):
                one = cell[place]
                key = (one.kind, one.positions, id(one.gate), id(one.dictionary))
                members.setdefault(key, []).append((number, one))
        found += [_group(chosen, len(cells)) for chosen in members.values()]
    return found


def _group(members: Sequence[tuple[int, Intervention]], cells: int) -> _Group:
    slot = torch.full((cells,), -1)
    slot[[number for number, _ in members]] = torch.arange(len(members))
    every = [one for _, one in members]
    lengths = [one.vector.shape[0] if one.vector.ndim == 2 else 1 for one in every]
    widths = {one.vector.shape[-1] for one in every}
    if len(widths) > 1:
        raise UsageError(f"steering at {every[0].site}: vectors of one width expected, found {sorted(widths)}")
    vectors = every[0].vector.new_zeros(len(every), max(lengths), widths.pop())
    for place, (one, length) in enumerate(zip(every, lengths, strict=True)):
        vectors[place, :length] = one.vector
    return _Group(
        every[0],
        slot,
        vectors,
        torch.tensor(lengths),
        torch.tensor([one.coefficient.raw for one in every], dtype=torch.float64),
        torch.tensor([-1 if one.latent is None else one.latent for one in every]),
    )
