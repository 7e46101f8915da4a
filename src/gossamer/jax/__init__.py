"""Read, write and rewire any JAX model: name values with `tag`, visit them with `run`."""

from gossamer.jax.run import Run, run
from gossamer.jax.sites import sites
from gossamer.jax.tag import tag

__all__ = ["Run", "run", "sites", "tag"]
