"""Is the circuit faithful, complete, minimal, stable? Every answer folds over mask -> metrics of held-out prompts."""
