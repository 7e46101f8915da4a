"""The workbench: what a run folder holds, in a browser on this machine (`gossamer view RUN`).

Names load on first use: what needs no server (views that were kept, the page's files) needs no fastapi either.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
