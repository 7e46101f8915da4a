"""What every method of circuits looks like, by its name: the same colour, marker and line wherever it is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

from gossamer.report import style

# In the order of the palette, which has one colour and one marker for each.
_KNOWN = (
    "reference recipe",
    "integrated gradients",
    "attribution patching",
    "RelP",
    "EAP-IG inputs",
    "random",
    "activation difference",
    "integrated gradients by site",
    "FAP-Synergy",
    "greedy",
)
_SIGNED = ", signed"


class MethodLook(NamedTuple):
    """Place in the palette, None for ours; a ranking by sign has the colour of that by size, and a dashed line."""

    slot: int | None
    dashed: bool = False

    @property
    def colour(self) -> str:
        """Of line, marker and name."""
        return style.method_colour(0 if self.slot is None else self.slot + 1)

    @property
    def marker(self) -> str:
        """Of every circuit that was measured."""
        return "o" if self.slot is None else style.MARKERS[self.slot % len(style.MARKERS)]


def method_looks(methods: Sequence[str]) -> dict[str, MethodLook]:
    """Looks of methods, ours first; one that is not known has a colour that no other of these has, while there are."""
    names = {method: method.removesuffix(_SIGNED) for method in methods[1:]}
    slots = {name: _KNOWN.index(name) for name in names.values() if name in _KNOWN}
    free = [slot for slot in range(len(_KNOWN)) if slot not in slots.values()] or list(range(len(_KNOWN)))
    for name in names.values():
        if name not in slots:
            slots[name] = free[(len(slots) - len(set(slots) & set(_KNOWN))) % len(free)]
    found = {method: MethodLook(slots[name], method != name) for method, name in names.items()}
    return {**dict.fromkeys(methods[:1], MethodLook(None)), **found}
