"""Recursive direct feature attribution: where a latent or a logit difference came from, and where that came from.

A trace is a tree. Its root is a function of the prompt (a latent's pre-activation, a difference of logits); the
children of a node are terms of its function (:mod:`gossamer.attention.upstream`), and a latent that is active is its
pre-activation, so that its own terms go on. Along a path contributions multiply: a node's contribution is what it adds
to the root through this path alone, with patterns and norm scales as they were. It is grown best first, the largest
contribution next (Kissane et al. 2024 grow it by hand).
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Source
from gossamer.attention.upstream import Terms, of_latents, upstream
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site


@dataclass(frozen=True)
class TraceNode:
    """One term of its parent's function.

    Attributes:
        source: what contributes.
        parent: number of the node whose function it is a term of; None for the root.
        contribution: to the root, through this path; of several prompts, the mean.
        share: of its parent's contribution.
        heads: its contribution by the attention head that moved it to its parent; empty where none did.
        activation: of a latent, its activation there (mean over the prompts).
        bias: the part of its contribution that biases make up; with those of its children and `remainder` it is whole.
        remainder: the part that terms which are not shown make up.
        expanded: whether its own terms were looked at.
    """

    source: Source
    parent: int | None
    contribution: float
    share: float = 1.0
    heads: tuple[float, ...] = ()
    activation: float | None = None
    bias: float = 0.0
    remainder: float = 0.0
    expanded: bool = False

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.source)
        yield f"contribution {self.contribution:.4g}"


@dataclass(frozen=True)
class Trace:
    """A tree of contributions to one function; the first node is the root, and parents come before children."""

    target: str
    nodes: tuple[TraceNode, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.target
        yield plural(len(self.nodes), "node")

    def children(self, parent: int) -> list[int]:
        """Numbers of a node's children, the largest contribution first."""
        found = [number for number, node in enumerate(self.nodes) if node.parent == parent]
        return sorted(found, key=lambda number: -abs(self.nodes[number].contribution))

    def path(self, number: int) -> list[int]:
        """Numbers of the nodes from the root to one."""
        parent = self.nodes[number].parent
        return [*([] if parent is None else self.path(parent)), number]


@dataclass(frozen=True, eq=False)
class Root:
    """The function that a trace explains: the sum over tokens and rows of cotangent . value of a site, and a constant.

    Attributes:
        name: what it is.
        site: whose value it is a function of.
        cotangent: the function.
        constant: its bias.
        value: of the function.
        rows: over how many rows it is a sum; contributions are means over them.
    """

    name: str
    site: Site
    cotangent: Float[Tensor, "batch pos d"]
    constant: float
    value: float
    rows: int

    __repr__ = short_repr


@torch.no_grad()
def latent_root(frozen: FrozenPass, feature: Feature, position: int) -> Root:
    """The pre-activation of a latent at one position of each row; only rows in which it is active there count.

    Raises:
        UsageError: no dictionary at its site, no such latent or position, or one that is active there in no row.
    """
    codes = frozen.codes_at(feature.site)
    if not 0 <= feature.latent < codes.dictionary.n_latents:
        raise UsageError(f"{feature}: a latent below {codes.dictionary.n_latents} expected, found {feature.latent}")
    width = frozen.tokens.ids.shape[1]
    place = frozen.positions(position)
    entries = codes.latents.latents == feature.latent
    rows, positions = codes.latents.tokens[entries] // width, codes.latents.tokens[entries] % width
    here = positions == place[rows]
    if not here.any():
        where = ", ".join(
            f"{at} of row {row}" for row, at in list(zip(rows.tolist(), positions.tolist(), strict=True))[:5]
        )
        raise UsageError(
            f"{feature} is not active at position {position}: an active latent expected; it is active "
            f"{'at position ' + where if where else 'nowhere in these prompts'}"
        )
    weight = frozen.values[Site("embed")].new_zeros(frozen.tokens.ids.shape)
    weight[rows[here], positions[here]] = 1.0
    cotangent, bias = of_latents(codes, feature.latent, weight)
    value = float(codes.latents.activations[entries][here].sum())
    name = f"{feature} at position {position}"
    return Root(name, feature.site, cotangent, float(bias.values.sum()), value, int(here.sum()))


@torch.no_grad()
def logit_root(
    frozen: FrozenPass, answer: Int[Tensor, "batch"], incorrect: Int[Tensor, "batch"], at: Int[Tensor, "batch"]
) -> Root:
    """The logit of the answer over that of the incorrect one at one position of each row, before any cap on logits.

    Args:
        frozen: the pass.
        answer, incorrect: token ids.
        at: position of each row at which they are predicted, as of columns of the tokens.

    Raises:
        UsageError: the head is no plain matrix.
    """
    model, site = frozen.model, Site("resid_post", frozen.model.n_layers - 1)
    stream, rows = frozen.values[site], torch.arange(len(answer), device=frozen.replaced.device)
    (up, up_bias), (down, down_bias) = (model.head.rows(ids.to(stream.device)) for ids in (answer, incorrect))
    function = (up.to(stream) - down.to(stream)) * model.anatomy.logit_multiplier
    constant = stream.new_zeros(len(rows))
    if up_bias is not None and down_bias is not None:
        constant = (up_bias - down_bias).to(stream) * model.anatomy.logit_multiplier
    if model.anatomy.has("final_norm_scale"):
        scale = frozen.values[Site("final_norm_scale")][rows, at]
        function, bias = model.anatomy.norm_of(model.anatomy.norm).pulled_back(function, scale)
        constant = constant + bias
    cotangent = torch.zeros_like(stream)
    cotangent[rows, at] = function
    value = float((function * stream[rows, at]).sum() + constant.sum())
    return Root("logit difference", site, cotangent, float(constant.sum()), value, len(rows))


@dataclass(eq=False)
class _Growing:
    """A node while the tree grows, with what its children are computed from."""

    source: Source
    parent: int | None
    contribution: float
    heads: tuple[float, ...]
    site: Site
    cotangent: Callable[[], tuple[Tensor, float]] | None
    activation: float | None = None
    bias: float = 0.0
    shown: float = 0.0
    expanded: bool = False


@torch.no_grad()
def trace(
    frozen: FrozenPass,
    root: Root,
    *,
    nodes: int = 100,
    least: float = 0.0,
    roles: Int[Tensor, "batch pos"] | None = None,
    role_names: Sequence[str] = (),
) -> Trace:
    """Grow a tree from a root, the largest contribution first.

    Args:
        frozen: the pass.
        root: what is explained (:func:`latent_root`, :func:`logit_root`).
        nodes: at most so many, the root included.
        least: leave out what contributes less than this share of the root.
        roles: role of every token (-1: none), to add up over the tokens of a role and take means over prompts; None:
            positions count, of one prompt.
        role_names: names of the roles.

    Raises:
        UsageError: several prompts without roles, or no room for a root.
    """
    if nodes < 1:
        raise UsageError(f"trace: at least 1 node expected, found {nodes}")
    places = _Places.of(frozen, roles, role_names)
    total = root.value / root.rows
    first = _Growing(
        Source("root", None, None, None), None, total, (), root.site, lambda: (root.cotangent, root.constant)
    )
    grown: list[_Growing] = []
    waiting = [(-abs(total), 0, first)]
    count = 1
    floor = max(least, 1e-12) * abs(total)
    while waiting and len(grown) < nodes:
        _, _, node = heapq.heappop(waiting)
        number = len(grown)
        grown.append(node)
        if node.parent is not None:
            grown[node.parent].shown += node.contribution
        if node.cotangent is None:
            continue
        node.expanded = True
        cotangent, constant = node.cotangent()
        node.bias += constant / root.rows
        for terms in upstream(frozen, node.site, cotangent):
            if terms.kind == "bias":
                node.bias += float(terms.values.sum()) / root.rows
                continue
            for child in places.children(terms, number, root.rows, floor):
                heapq.heappush(waiting, (-abs(child.contribution), count, child))
                count += 1
        if len(waiting) > nodes:
            # The largest of those that wait are enough to fill the tree: nothing smaller can come into it any more.
            waiting = heapq.nsmallest(nodes - len(grown) + 1, waiting)
            floor = max(floor, -waiting[-1][0])
    return Trace(root.name, tuple(_finished(node, grown) for node in grown))


def _finished(node: _Growing, grown: Sequence[_Growing]) -> TraceNode:
    above = node.contribution if node.parent is None else grown[node.parent].contribution
    return TraceNode(
        node.source,
        node.parent,
        node.contribution,
        node.contribution / above if above else 0.0,
        node.heads,
        node.activation,
        node.bias,
        node.contribution - node.bias - node.shown if node.expanded else 0.0,
        node.expanded,
    )


@dataclass(frozen=True, eq=False)
class _Places:
    """Where a term stands: at a position of one prompt, or at a role of several."""

    frozen: FrozenPass
    index: Int[Tensor, "tokens"]
    names: Sequence[int | str]

    @classmethod
    def of(cls, frozen: FrozenPass, roles: Int[Tensor, "batch pos"] | None, names: Sequence[str]) -> "_Places":
        batch, width = frozen.tokens.ids.shape
        if roles is None:
            if batch != 1:
                raise UsageError(f"trace: one prompt, or roles that tokens are added up by, expected; found {batch}")
            return cls(frozen, torch.arange(width, device=frozen.replaced.device), range(width))
        # The last place holds the tokens that have no role.
        index = torch.where(roles >= 0, roles, len(names)).to(frozen.replaced.device)
        return cls(frozen, index.flatten(), [*names, "no role"])

    def children(self, terms: Terms, parent: int, rows: int, least: float) -> Iterator[_Growing]:
        """The terms of at least some size, added up by place (and latent)."""
        width = len(self.names)
        place = self.index[terms.tokens]
        keys = place if terms.latents is None else terms.latents * width + place
        distinct, which = torch.unique(keys, return_inverse=True)
        sums = terms.values.new_zeros(len(distinct), terms.values.shape[1]).index_add(0, which, terms.values) / rows
        totals = sums.sum(dim=1)
        for number in (totals.abs() >= least).nonzero().squeeze(1).tolist():
            key = int(distinct[number])
            latent, at = (None, key) if terms.latents is None else divmod(key, width)
            chosen = which == number
            source = Source(terms.kind, terms.site, latent, self.names[at])
            heads = tuple(sums[number].tolist()) if sums.shape[1] > 1 else ()
            child = _Growing(source, parent, float(totals[number]), heads, terms.site, None)
            if latent is not None:
                assert terms.per_unit is not None
                weight, tokens = terms.per_unit[chosen], terms.tokens[chosen]
                child.activation = float(self.frozen.codes[terms.site].latents.activations[chosen].sum()) / rows
                child.cotangent = lambda latent=latent, w=weight, t=tokens: self._latent(terms.site, latent, w, t)
            elif terms.cotangent is not None:
                child.cotangent = lambda at=at: self._masked(terms.cotangent, at)
            yield child

    def _latent(self, site: Site, latent: int, weight: Tensor, tokens: Tensor) -> tuple[Tensor, float]:
        grid = weight.new_zeros(len(self.index)).index_put((tokens,), weight)
        cotangent, bias = of_latents(self.frozen.codes[site], latent, grid.reshape(self.frozen.tokens.ids.shape))
        return cotangent, float(bias.values.sum())

    def _masked(self, cotangent: Float[Tensor, "batch pos d"], place: int) -> tuple[Tensor, float]:
        here = (self.index == place).reshape(self.frozen.tokens.ids.shape)
        return cotangent * here.unsqueeze(-1), 0.0
