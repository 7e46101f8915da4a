"""Products of tokens and latents of which few count: finding the largest, and working with those alone."""
