"""What all strategies for dead latents have in common."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DeadLatentStrategy:
    """Settings of one strategy for dead latents.

    Attributes:
        name: which one it is, for files.
    """

    name: str = field(default="", init=False)
