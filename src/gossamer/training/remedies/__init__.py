"""What is done about latents that never fire, as options beside any objective."""

from gossamer.training.remedies.remedy import Remedy

__all__ = ["Remedy"]
