"""gossamer: find, test and look at sparse feature circuits in language models.

The names of `__all__`, whose homes `__init__.pyi` lists, load on first use: `gossamer --help` waits for no torch.
Rooms, in the direction in which data flows: `tasks`, `model`, `activations`, `dictionary`, `features`, `replacement`,
`training`, `circuits`, `attention`, `store`, `chat`, `steering`, `explain`, `results`, `report`; beside them `toys`,
`bundled`, and `jax`, which stands alone (`pip install "gossamer[jax]"`).
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("gossamer")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
