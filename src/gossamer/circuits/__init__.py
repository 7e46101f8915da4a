"""Which latents do a task: splice dictionaries into a model, search for the circuit, test it, keep it."""
