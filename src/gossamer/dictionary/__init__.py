"""Sparse dictionaries of a model's activations: read, evaluate, check, write."""

from gossamer.dictionary.attach import Attachment, DictionaryWarning, Measurement, measure
from gossamer.dictionary.config import DictionaryConfig, ReportedMetrics
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.sparse.latents import SparseLatents

__all__ = [
    "Attachment",
    "Dictionary",
    "DictionaryConfig",
    "DictionarySet",
    "DictionaryWarning",
    "Measurement",
    "ReportedMetrics",
    "SparseLatents",
    "measure",
]
