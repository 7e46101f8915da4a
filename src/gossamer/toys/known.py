"""The circuit that a compiled program has by construction: exact dictionaries, and the nodes that its output needs."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.features.feature import Feature, Node
from gossamer.model.kinds import named
from gossamer.model.site import BySite, Site, SiteLike
from gossamer.toys.compiler import Compiled
from gossamer.toys.layout import Direction, Layout
from gossamer.toys.rasp import AmbiguousError, Expression, Interpreter, Removal, Value
from gossamer.toys.task import position_role

_READABLE = (*named(in_stream=True), "mlp_in")
# Sublayers after which the stream stands at a site of layer l: these plus 2 l.
_AFTER = {"resid_pre": -1, "resid_mid": 0, "resid_post": 1}


class Latent(NamedTuple):
    """One latent of a labelled dictionary: a direction, and the sign along it (+1, or -1 for negative numbers)."""

    direction: Direction
    place: int
    sign: int

    @property
    def label(self) -> str:
        """The direction's label; a latent for negative numbers ends in a minus sign."""
        return self.direction.label + ("-" if self.sign < 0 else "")


def labelled_latents(layout: Layout) -> tuple[Latent, ...]:
    """The latents of every labelled dictionary: one for each direction, two for a number that can be negative."""
    negative = {layout.place(node) for node, values in layout.values.items() if node.numerical and float(values[0]) < 0}
    return tuple(
        Latent(direction, place, sign)
        for place, direction in enumerate(layout.directions)
        for sign in ((1, -1) if place in negative else (1,))
    )


def labelled_dictionary(compiled: Compiled, site: SiteLike) -> Dictionary:
    """The dictionary of the labelled directions: a ReLU of the length along each, decoded along the same direction.

    Exact (up to rounding) on the program's own activations if the model is not compressed, or if no direction is lost
    in the compression. Memory: 2 d_model x latents floats.

    Raises:
        UsageError: a site whose width is not the residual stream's.
    """
    site = Site.of(site)
    if site.kind not in _READABLE:
        raise UsageError(f"{site}: directions are labelled at {', '.join(_READABLE)}; choose one of these")
    latents = labelled_latents(compiled.layout)
    signs = torch.tensor([float(latent.sign) for latent in latents])
    rows = compiled.projection[[latent.place for latent in latents]] * signs[:, None]
    n, d = rows.shape
    config = DictionaryConfig("relu", d, n, site=site, model_name=compiled.language_model.name)
    dictionary = Dictionary(config, provenance={"source": "labelled directions of a compiled program"})
    dictionary.W_enc.data, dictionary.W_dec.data = rows.clone().T, rows.clone()
    for bias in (dictionary.b_enc, dictionary.b_dec):
        assert bias is not None
        torch.nn.init.zeros_(bias)
    return dictionary.requires_grad_(False)


def labelled_dictionaries(compiled: Compiled, sites: Iterable[SiteLike] | None = None) -> BySite[Dictionary]:
    """A labelled dictionary for each of `sites`, in their execution order; by default after every layer."""
    chosen = compiled.language_model.sites("resid_post") if sites is None else map(Site.of, sites)
    return BySite((site, labelled_dictionary(compiled, site)) for site in sorted(chosen))


def known_circuit(
    compiled: Compiled, inputs: Sequence[Sequence[Value]], sites: Iterable[SiteLike], *, position: int = -1
) -> frozenset[Node]:
    """The nodes that the output at `position` needs: those whose removal alone changes it on one of `inputs`.

    Latents are those of the labelled dictionaries, roles the positions of the input, as :func:`program_task` names
    them.

    Decided by the program, not by the network: the interpreter runs with one value taken away (None or 0) from one
    variable at one position, as all its readers after the site see it. A removal that leaves an aggregate several
    values to choose from counts as a change.

    Args:
        compiled: the program.
        inputs: on which to look.
        sites: places in the residual stream (resid_pre, resid_mid, resid_post).
        position: of the output, as an index of the input.

    Raises:
        UsageError: another kind of site.
    """
    layout, latents = compiled.layout, labelled_latents(compiled.layout)
    numbers = {(latent.place, latent.sign): index for index, latent in enumerate(latents)}
    audiences = _audiences(layout, map(Site.of, sites))
    found: set[Node] = set()
    for tokens in inputs:
        matters = _matters(compiled, tokens, position % len(tokens))
        for site, node, readers in audiences:
            for here, value in _present(compiled, node, tokens):
                if matters(node, here, value, readers):
                    sign = -1 if node.numerical and float(value) < 0 else 1
                    feature = Feature(site, numbers[layout.place(node, value), sign])
                    found.add(Node(feature, position_role(here, len(tokens))))
    return frozenset(found)


def _audiences(layout: Layout, sites: Iterable[Site]) -> list[tuple[Site, Expression, frozenset[Expression | None]]]:
    """At each site the variables that are there, and who will still read them."""
    found = []
    for site in sites:
        if site.layer is None or site.kind not in _AFTER:
            raise UsageError(f"{site}: a known circuit has nodes at {', '.join(_AFTER)}; choose one of these")
        done = 2 * site.layer + _AFTER[site.kind]
        for node, sublayer in layout.sublayers.items():
            later = frozenset(reader for reader, place in layout.readers(node).items() if place > done)
            if sublayer <= done and later:
                found.append((site, node, later))
    return found


def _present(compiled: Compiled, node: Expression, tokens: Sequence[Value]) -> Iterator[tuple[int, Any]]:
    """The positions at which a variable has a direction active, with its value."""
    run = Interpreter(tokens, causal=compiled.causal)
    for here in range(len(tokens)):
        value = run.read(node, here)
        if value is not None and not (node.numerical and value == 0):
            yield here, value


def _matters(compiled: Compiled, tokens: Sequence[Value], position: int) -> Any:
    """Whether removing a value changes the output at `position`, as a function that remembers its answers."""
    program, domains = compiled.program, compiled.layout.values
    clean = Interpreter(tokens, causal=compiled.causal).read(program, position)

    @cache
    def changes(node: Expression, here: int, value: Any, readers: frozenset[Expression | None]) -> bool:
        removal = Removal(node, here, value, readers, domains)
        try:
            return Interpreter(tokens, causal=compiled.causal, removal=removal).read(program, position) != clean
        except AmbiguousError:
            return True

    return changes
