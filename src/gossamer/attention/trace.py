"""Recursive direct feature attribution: where a latent or a logit difference came from, and where that came from.

A trace is a tree. Its root is a function of the prompt (a latent's pre-activation, a difference of logits); the
children of a node are terms of its function (:mod:`gossamer.attention.upstream`), and a latent that is active is its
pre-activation, so that its own terms go on. Along a path contributions multiply: a node's contribution is what it adds
to the root through this path alone, with patterns and norm scales as they were. It is grown best first, the largest
contribution next (Kissane et al. 2024 grow it by hand).
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.places import Places
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
    """A node while the tree grows, with what its terms are computed from."""

    source: Source
    parent: int | None
    contribution: float
    heads: tuple[float, ...]
    site: Site
    function: Callable[[], tuple[Tensor, float]] | None
    activation: float | None = None
    bias: float = 0.0
    shown: float = 0.0
    expanded: bool = False


def trace(
    frozen: FrozenPass,
    root: Root,
    *,
    nodes: int = 100,
    least: float = 0.0,
    roles: Int[Tensor, "batch pos"] | None = None,
    role_names: Sequence[str] = (),
) -> Trace:
    """Grow a tree from a root, the largest contribution first: :meth:`TraceTree.grow`.

    Raises:
        UsageError: several prompts without roles, or no room for a root.
    """
    return TraceTree(frozen, root, roles=roles, role_names=role_names).grow(nodes=nodes, least=least)


class TraceTree:
    """A tree that grows from a root, by hand (:meth:`expand`), by itself (:meth:`grow`), or both in turn.

    Args:
        frozen: the pass.
        root: what is explained (:func:`latent_root`, :func:`logit_root`).
        roles: role of every token (-1: none), to add up over the tokens of a role and take means over prompts; None:
            positions count, of one prompt.
        role_names: names of the roles.

    Raises:
        UsageError: several prompts without roles.
    """

    def __init__(
        self,
        frozen: FrozenPass,
        root: Root,
        *,
        roles: Int[Tensor, "batch pos"] | None = None,
        role_names: Sequence[str] = (),
    ) -> None:
        self.root, self.places = root, Places.of(frozen, roles, role_names)
        nothing = Source("root", None, None, None)
        first = _Growing(nothing, None, root.value / root.rows, (), root.site, lambda: (root.cotangent, root.constant))
        self._nodes = [first]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.root.name
        yield plural(len(self._nodes), "node")

    @property
    def trace(self) -> Trace:
        """The tree as it stands."""
        return Trace(self.root.name, tuple(self._finished(node) for node in self._nodes))

    @torch.no_grad()
    def expand(self, number: int, most: int = 10) -> list[int]:
        """Add the largest terms of a node that are not shown yet; returns their numbers, the largest first.

        Args:
            number: of the node, as in :attr:`trace`.
            most: how many terms to add, at most.

        Raises:
            UsageError: no such node, or one whose terms cannot be told: an embedding, an error, an MLP.
        """
        if not 0 <= number < len(self._nodes):
            raise UsageError(f"trace: a node from 0 to {len(self._nodes) - 1} expected, found {number}")
        if self._nodes[number].function is None:
            raise UsageError(f"trace: {self._nodes[number].source} ends a path; expand a latent or an attention layer")
        found = sorted(self._hidden(number, 0.0), key=lambda child: -abs(child.contribution))[:most]
        return [self._add(child) for child in found]

    @torch.no_grad()
    def grow(self, *, nodes: int = 100, least: float = 0.0) -> Trace:
        """Add nodes, the largest contribution first; returns the tree.

        Args:
            nodes: at most so many, the root and all that stand already included.
            least: leave out what contributes less than this share of the root.

        Raises:
            UsageError: no room for a root.
        """
        if nodes < 1:
            raise UsageError(f"trace: at least 1 node expected, found {nodes}")
        floor = max(least, 1e-12) * abs(self._nodes[0].contribution)
        waiting: list[tuple[float, int, _Growing]] = []
        count = itertools.count()

        def wait(number: int) -> None:
            nonlocal waiting, floor
            for child in self._hidden(number, floor):
                heapq.heappush(waiting, (-abs(child.contribution), next(count), child))
            if len(waiting) > nodes:
                # The largest of those that wait are enough to fill the tree: nothing smaller can come into it any more.
                waiting = heapq.nsmallest(max(nodes - len(self._nodes), 0) + 1, waiting)
                floor = max(floor, -waiting[-1][0])

        for number in range(len(self._nodes)):
            wait(number)
        while waiting and len(self._nodes) < nodes:
            wait(self._add(heapq.heappop(waiting)[2]))
        return self.trace

    def _add(self, child: _Growing) -> int:
        assert child.parent is not None
        self._nodes.append(child)
        self._nodes[child.parent].shown += child.contribution
        return len(self._nodes) - 1

    def _hidden(self, number: int, least: float) -> Iterator[_Growing]:
        """The terms of a node, of at least some size, that are no nodes yet; none of one that ends a path."""
        node, rows = self._nodes[number], self.root.rows
        if node.function is None:
            return
        shown = {child.source for child in self._nodes if child.parent == number}
        cotangent, constant = node.function()
        node.expanded, node.bias = True, constant / rows
        for terms in upstream(self.places.frozen, node.site, cotangent):
            if terms.kind == "bias":
                node.bias += float(terms.values.sum()) / rows
                continue
            for child in self._children(terms, number, least):
                if child.source not in shown:
                    yield child

    def _children(self, terms: Terms, parent: int, least: float) -> Iterator[_Growing]:
        """The terms of at least some size, added up by place (and latent)."""
        places, rows = self.places, self.root.rows
        width = len(places.names)
        place = places.index[terms.tokens]
        keys = place if terms.latents is None else terms.latents * width + place
        distinct, which = torch.unique(keys, return_inverse=True)
        sums = terms.values.new_zeros(len(distinct), terms.values.shape[1]).index_add(0, which, terms.values) / rows
        totals = sums.sum(dim=1)
        for number in (totals.abs() >= least).nonzero().squeeze(1).tolist():
            key = int(distinct[number])
            latent, at = (None, key) if terms.latents is None else divmod(key, width)
            source = Source(terms.kind, terms.site, latent, places.names[at])
            heads = tuple(sums[number].tolist()) if sums.shape[1] > 1 else ()
            child = _Growing(source, parent, float(totals[number]), heads, terms.site, None)
            if latent is not None or terms.cotangent is not None:
                chosen = which == number
                child.function = partial(places.function, terms, source, chosen)
                if latent is not None:
                    activations = places.frozen.codes[terms.site].latents.activations
                    child.activation = float(activations[chosen].sum()) / rows
            yield child

    def _finished(self, node: _Growing) -> TraceNode:
        above = node.contribution if node.parent is None else self._nodes[node.parent].contribution
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
