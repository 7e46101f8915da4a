"""Fixtures of the examples' tests: those in JAX compile as the JAX room's do."""

from importlib.util import find_spec

if find_spec("jaxlib"):
    import quick_xla

    quick_xla.set_up()
