"""What is patched is part of the key of every JAX cache: a jitted function is traced anew, an old trace found again.

The patches in force are the value of a user context of JAX. It is process-wide, as a function's code is: threads see
the same patches. A JAX without user contexts gets its caches cleared at every change instead, with a warning.
"""

import warnings
from collections.abc import Hashable
from typing import Any

import jax

from gossamer.jax.patching.errors import PatchWarning


def _made() -> Any:
    """A context whose value can be set for all threads, or None where JAX has none."""
    make = getattr(jax, "make_user_context", None)
    context = None if make is None else make(default_value=None)
    return context if hasattr(context, "set_global") else None


# Made on import: every new context changes the keys of all caches once.
_CONTEXT = _made()


def warn_if_cleared() -> None:
    """Say, before anything changes, that this JAX needs its caches cleared."""
    if _CONTEXT is None:
        text = (
            f"jax {jax.__version__} has no user contexts: every patch that comes or goes drops all compiled functions"
        )
        warnings.warn(text, PatchWarning, stacklevel=5)


def announce(patches: tuple[Hashable, ...]) -> None:
    """From here on these patches are in force, in the order in which they were applied."""
    if _CONTEXT is None:
        jax.clear_caches()
    else:
        _CONTEXT.set_global(patches or None)
