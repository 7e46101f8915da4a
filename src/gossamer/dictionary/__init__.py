"""Sparse dictionaries of a model's activations: read, evaluate, check, write."""

from gossamer.dictionary.config import Claims, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.latents import SparseLatents
from gossamer.dictionary.set import DictionarySet

__all__ = ["Claims", "Dictionary", "DictionaryConfig", "DictionarySet", "SparseLatents"]
