"""What is done about latents that never fire, as options beside any objective."""

from gossamer.training.remedies.ghost import Ghost
from gossamer.training.remedies.remedy import Remedy
from gossamer.training.remedies.resampling import Resampling

__all__ = ["Ghost", "Remedy", "Resampling"]
