"""Which of the stacked layers a read or write means: "all", numbers, or numbers that are themselves traced.

A traced layer number makes a sweep over layers one compiled program.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossamer.jax.errors import InstrumentError, LayerOutOfRange

Layers = Any  # int | Sequence[int] | integer array (), (k,), traced or not | "all"


@dataclass(frozen=True)
class Chosen:
    """The layers of one read or write.

    Args:
        numbers: layer numbers: a tuple, or a traced integer array () or (k,); None for all layers.
        one: a single number was given: a saved value has no layer axis.
    """

    numbers: tuple[int, ...] | jax.Array | None
    one: bool = False

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
            return layer in self.numbers if isinstance(layer, int) else jnp.any(jnp.asarray(self.numbers) == layer)
        return jnp.any(self.numbers == layer)

    def slot(self, layer: Any) -> Any:
        """Which row of a save belongs to `layer`; any row where it is not chosen."""
        assert self.numbers is not None
        return jnp.argmax(jnp.reshape(jnp.asarray(self.numbers), (-1,)) == layer)

    def outside(self, length: int) -> Any:
        """Whether any traced number is no layer at all; False where the numbers are known, for they are checked."""
        if self.numbers is None or isinstance(self.numbers, tuple):
            return False
        return jnp.any((self.numbers < 0) | (self.numbers >= length))


def choose(layers: Layers, length: int | None) -> Chosen:
    """Read what a user gave as `layers`.

    Args:
        layers: "all"; a number (negative ones count from the end); several different ones; or a traced integer array
            of shape () or (k,).
        length: how many layers there are; None where that is not known (unrolled layers).

    A traced number that is no layer cannot be refused: its save is NaN and its edit makes the value NaN.

    Raises:
        LayerOutOfRange: a number that is no layer.
        InstrumentError: no numbers, repeated ones, or something else.
    """
    if isinstance(layers, str):
        if layers != "all":
            raise InstrumentError(f'layers="{layers}": give "all", a layer number or several')
        return Chosen(None)
    if isinstance(layers, jax.core.Tracer):
        return _traced(layers)
    numbers = np.asarray(layers)
    if numbers.ndim > 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise InstrumentError(f'layers={layers!r}: give "all", a layer number or several')
    wanted = [int(number) for number in numbers.reshape(-1)]
    for number in wanted:
        if length is None and number < 0:
            raise LayerOutOfRange(f"layer {number}: unrolled layers are not counted from the end")
        if length is not None and not -length <= number < length:
            raise LayerOutOfRange(f"layer {number}: the site is in {length} stacked layers, 0 to {length - 1}")
    resolved = tuple(number if length is None else number % length for number in wanted)
    if len(set(resolved)) != len(resolved):
        raise InstrumentError(f"layers={layers!r}: a layer is named twice")
    return Chosen(resolved, one=numbers.ndim == 0)


def _traced(layers: jax.core.Tracer) -> Chosen:
    if layers.ndim > 1 or not jnp.issubdtype(layers.dtype, jnp.integer):
        raise InstrumentError(f"layers: a traced {layers.dtype}{list(layers.shape)}; give integers of shape () or (k,)")
    # Kept as it is: a new array would belong to the body that the site is in.
    return Chosen(layers, one=layers.ndim == 0)
