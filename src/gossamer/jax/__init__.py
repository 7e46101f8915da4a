"""Read, write and rewire any JAX model: name values with `tag`, visit them with `run`."""

from gossamer.jax.capture import At, at, capture, patch
from gossamer.jax.run import Run, run
from gossamer.jax.scope import Handle
from gossamer.jax.site import TagSite
from gossamer.jax.sites import SiteTable, sites
from gossamer.jax.split import split
from gossamer.jax.tag import tag

__all__ = ["At", "Handle", "Run", "SiteTable", "TagSite", "at", "capture", "patch", "run", "sites", "split", "tag"]
