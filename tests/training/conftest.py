"""Its place makes the fixtures of this folder importable from the folders in it."""
