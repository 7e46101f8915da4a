"""The workbench: what a run folder holds, in a browser on this machine (`gossamer view RUN`).

The names of `__all__`, whose homes `__init__.pyi` lists, load on first use: a taken port costs no import of torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
