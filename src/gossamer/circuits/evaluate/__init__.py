"""Is the circuit faithful, complete, minimal, stable? Every answer folds over mask -> outcome on held-out prompts."""
