"""gossamer: find, test and look at sparse feature circuits in language models."""
