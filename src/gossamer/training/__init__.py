"""Sparse dictionaries from a model and text."""
