"""Which of the stacked layers a read or write means: "all", numbers, or numbers that are themselves traced.

A traced layer number makes a sweep over layers one compiled program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossamer.jax.errors import InstrumentError, LayerOutOfRange

Layers = Any  # int | Sequence[int] | integer array (), (k,), traced or not | "all"


@dataclass(frozen=True)
class ChosenLayer:
    """The layers of one read or write.

    Args:
        numbers: layer numbers: a tuple, or a traced integer array () or (k,); None for all layers.
        one: a single number was given: a saved value has no layer axis.
        there: the layers that they are chosen from; None where those are not known.
    """

    numbers: tuple[int, ...] | jax.Array | None
    one: bool = False
    there: Sequence[int] | None = None

    @property
    def count(self) -> int:
        """How many rows a save of these layers takes."""
        return 0 if self.numbers is None else int(np.size(self.numbers))

    @property
    def known(self) -> bool:
        """Whether the numbers are known as the model is traced."""
        return self.numbers is None or isinstance(self.numbers, tuple)

    def has(self, layer: Any) -> Any:
        """Whether `layer` is chosen: a Python bool where both are known, otherwise a traced one."""
        if self.numbers is None:
            return True
        if isinstance(self.numbers, tuple):
            return layer in self.numbers if isinstance(layer, int) else jnp.any(self._array == layer)
        return jnp.any(self.numbers == layer)

    def slot(self, layer: Any) -> Any:
        """Which row of a save belongs to `layer`; any row where it is not chosen."""
        # Not jnp.argmax, whose type depends on `jax.enable_x64` as it is traced, and again as it is lowered.
        return jax.lax.argmax(jnp.reshape(self._array, (-1,)) == layer, 0, np.int32)

    @property
    def _array(self) -> Any:
        return np.asarray(self.numbers, np.int32) if isinstance(self.numbers, tuple) else self.numbers

    @property
    def unchecked(self) -> bool:
        """Whether a number may be no layer, which is seen only as the model runs."""
        return not self.known and self.there is not None

    def outside(self) -> Any:
        """For each of traced numbers, whether it is no layer: of the shape of `numbers`."""
        numbers: Any = self.numbers
        if isinstance(self.there, range):
            return (numbers < self.there.start) | (numbers >= self.there.stop)
        return ~jnp.isin(numbers, jnp.asarray(self.there))


def choose(layers: Layers, there: Sequence[int] | None) -> ChosenLayer:
    """Read what a user gave as `layers`.

    Args:
        layers: "all"; a number; several different ones; or a traced integer array of shape () or (k,).
        there: the numbers of the layers: a range for stacked ones, among which negative numbers count from the end;
            None where they are not known.

    A traced number that is no layer cannot be refused: its save is NaN and its edit makes the value NaN.

    Raises:
        LayerOutOfRange: a number that is no layer.
        InstrumentError: no numbers, repeated ones, or something else.
    """
    if isinstance(layers, str):
        if layers != "all":
            raise InstrumentError(f'layers="{layers}": give "all", a layer number or several')
        return ChosenLayer(None, there=there)
    if isinstance(layers, jax.core.Tracer):
        if layers.ndim > 1 or not jnp.issubdtype(layers.dtype, jnp.integer):
            raise InstrumentError(
                f"layers: a traced {layers.dtype}{list(layers.shape)}; give integers of shape () or (k,)"
            )
        # Kept as it is: a new array would belong to the body that the site is in.
        return ChosenLayer(layers, one=layers.ndim == 0, there=there)
    numbers = np.asarray(layers)
    if numbers.ndim > 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise InstrumentError(f'layers={layers!r}: give "all", a layer number or several')
    resolved = tuple(_resolved(int(number), there) for number in numbers.reshape(-1))
    if len(set(resolved)) != len(resolved):
        raise InstrumentError(f"layers={layers!r}: a layer is named twice")
    return ChosenLayer(resolved, one=numbers.ndim == 0, there=there)


def _resolved(number: int, there: Sequence[int] | None) -> int:
    if isinstance(there, range):
        if not -len(there) <= number < len(there):
            raise LayerOutOfRange(f"layer {number}: the site is in {len(there)} stacked layers, 0 to {len(there) - 1}")
        return number % len(there)
    if number < 0:
        raise LayerOutOfRange(f"layer {number}: unrolled layers are not counted from the end")
    if there is not None and number not in there:
        raise LayerOutOfRange(f"no layer {number} among the sites, which are {', '.join(map(str, there))}")
    return number


def nan_where(value: Any, outside: Any) -> Any:
    """A value with NaN in its floating numbers where `outside` is true. No NaN is anywhere where it is false.

    Args:
        value: arrays in any pytree.
        outside: of shape (), or (k,) for arrays of shape (k, ...).
    """
    nan = jnp.sqrt(jnp.where(outside, -1.0, 1.0))

    def leaf_of(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        per_row = (*outside.shape, *[1] * (leaf.ndim - outside.ndim))
        return jnp.where(outside.reshape(per_row), nan.astype(leaf.dtype).reshape(per_row), leaf)

    return jax.tree.map(leaf_of, value)
