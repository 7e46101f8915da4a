"""Which changes to how a dictionary learns are worth it: each alone and all together, at several penalties, seeds."""

from gossamer.training.ablation.grid import AblationConfig, Variant, variants
from gossamer.training.ablation.results import Ablation, Summary, Trained
from gossamer.training.ablation.study import ablate

__all__ = ["Ablation", "AblationConfig", "Summary", "Trained", "Variant", "ablate", "variants"]
