"""Activations of a corpus on disk, written once and read as often as dictionaries are trained on them."""

from gossamer.training.cache.read import Cached
from gossamer.training.cache.write import write_cache

__all__ = ["Cached", "write_cache"]
