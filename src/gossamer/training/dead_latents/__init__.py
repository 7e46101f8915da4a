"""What is done about latents that never fire, as options beside any objective."""

from gossamer.training.dead_latents.ghost import Ghost
from gossamer.training.dead_latents.resampling import Resampling
from gossamer.training.dead_latents.strategy import DeadLatentStrategy

__all__ = ["DeadLatentStrategy", "Ghost", "Resampling"]
