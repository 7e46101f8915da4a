"""Models whose features are known: toy models of superposition, and programs compiled into transformers."""

import lazy_loader

# Loaded on first use: writing a program needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
