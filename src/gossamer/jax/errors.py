"""What gossamer.jax raises. Each class has a paragraph in docs/jax.md: what happened, why it is refused, what to do."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from gossamer.errors import GossamerError, UsageError


class InstrumentError(UsageError):
    """The base of all refusals of gossamer.jax."""


class UnknownTag(InstrumentError):
    """No tag of this name (and path) is in the model."""


class TagNotReached(InstrumentError):
    """The model has the tag, but the run did not come by it (again)."""


class UnusedIntervention(InstrumentError):
    """A callback, patch or capture never met its site."""


class UnusedTag(InstrumentError):
    """A write to a tag whose result the model does not use would change nothing."""


class WriteMismatch(InstrumentError):
    """The written value has another tree, shape or dtype than the model's."""


class NeedsLayer(InstrumentError):
    """In stacked layers a read or write must say which layers it means."""


class LayerOutOfRange(InstrumentError):
    """There is no layer of this number."""


class ScopedValue(InstrumentError):
    """A value was asked for before it was there, or after its site was left."""


class ScopedLeak(InstrumentError):
    """A value of a scan's or remat's body was used outside of that body."""


class RunNotFinished(InstrumentError):
    """The result was asked for before the model had run to its end."""


class Unsupported(InstrumentError):
    """A tag sits where it cannot be read or written."""


class NeedsLive(InstrumentError):
    """The model cannot be staged: its Python needs concrete values, or it changes state."""


class NeedsStaged(InstrumentError):
    """Only a staged run can do this."""


class ScopedRead(InstrumentError):
    """Live mode: the value belongs to an inner trace and cannot be taken out of it."""


class ResumedInOtherTrace(InstrumentError):
    """The run was resumed inside another JAX transformation than the one it stopped in."""


class ConcurrentRun(InstrumentError):
    """A run was resumed from another thread."""


class GreenletMissing(GossamerError):
    """The loop form needs the package greenlet."""


class EagerRunWarning(UserWarning):
    """A run of a model with stacked layers outside of `jax.jit` compiles its scans at every call."""


def unknown_tag(
    name: str, names: Iterable[str], path: str | None = None, unasked: Collection[str] = ()
) -> UnknownTag | TagNotReached:
    """Names the tags that there are, the closest first; for one that a patch puts in, says which line was not run.

    Args:
        unasked: names for remat policies that are in the model, and were not asked for.
    """
    from gossamer.jax.patching.placed import not_executed  # the patches raise errors of their own, and tag values

    known = sorted(set(names))
    patched = None if name in known else not_executed(name)
    if patched is not None:
        return TagNotReached(f"tag {name!r}: {patched}. Patch the code that runs instead.")
    if name in unasked:
        return UnknownTag(f"no tag {name!r}: it is a checkpoint_name in this model. Pass checkpoint_names=True.")
    if not known:
        return UnknownTag(f"no tag {name!r}: the function has no tags at all. Name values with gossamer.jax.tag.")
    if path is not None and name in known:
        return UnknownTag(f"no tag {name!r} at the path {path!r}. gossamer.jax.sites lists the paths.")
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Closest: {', '.join(close)}." if close else ""
    return UnknownTag(f"no tag {name!r}.{hint} The tags are: {', '.join(known)}.")


def scoped_leak(where: str) -> ScopedLeak:
    """`where`: which scopes the value may be of."""
    return ScopedLeak(
        f"a value computed inside a scan's or remat's body was used outside of it{where}. While the run stands "
        "there, all that you compute belongs to that body: bring values out with site.save(), and compute what "
        "belongs outside under `with r.outside():`"
    )
