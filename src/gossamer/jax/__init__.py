"""Read, write and rewire any JAX model: name values with `tag`, visit them with `run`."""

from gossamer.jax.tag import tag

__all__ = ["tag"]
