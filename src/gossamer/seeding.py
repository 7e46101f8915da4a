"""Random numbers without state: every draw has its own generator, named by what it is for.

A resumed run needs no saved generator: the draw of step 7 is the same whether or not steps 0 to 6 ran in this process.
"""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator that depends on `seed` and `purpose` alone."""
    name = "/".join(map(str, (seed, *purpose)))
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
