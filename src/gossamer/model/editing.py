"""One forward pass in which sites are read and edited through hooks that exist only while it runs."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from gossamer.errors import GossamerError
from gossamer.model.family import ATTENTION_KINDS, Anatomy
from gossamer.model.site import Site

Edit = Callable[[Tensor], Tensor]

# The innermost pass of this thread. An edit may itself run the model: the outer pass's hooks then keep still.
_innermost: ContextVar["Pass | None"] = ContextVar("gossamer_pass", default=None)


class Complete(Exception):  # noqa: N818 - it says that everything asked for has been read, not that something failed
    """Raised inside a forward pass to end it once every wanted site has been read."""


class Pass:
    """What one forward pass does at which sites.

    At a site the edits are applied in the order given, then the result is kept if the site is wanted. When the last
    wanted site has been read the pass ends with :class:`Complete`.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        edits: Mapping[Site, list[Edit]],
        wanted: Iterable[Site] = (),
        *,
        entry: tuple[int, Tensor] | None = None,
    ) -> None:
        """`entry` is (layer, stream): that layer reads the given stream and the layers before it do not run."""
        self.anatomy, self.edits, self.entry = anatomy, edits, entry
        self.missing = set(wanted)
        self.read: dict[Site, Tensor] = {}
        sites = {*edits, *self.missing}
        self.attention = {site for site in sites if site.kind in ATTENTION_KINDS}
        self.hooked = sorted(sites - self.attention)

    @property
    def running(self) -> bool:
        """Whether this is the innermost pass of the thread."""
        return _innermost.get() is self

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Install the hooks, and remove them whatever happens."""
        token = _innermost.set(self)
        handles: list[Any] = []
        try:
            if self.entry is not None:
                layer, stream = self.entry
                handles.append(self.anatomy.layers[layer].register_forward_pre_hook(self._enter(stream)))
            handles.extend(self._hook(site) for site in self.hooked)
            with _layers_from(self.anatomy, self.entry[0] if self.entry else 0):
                yield
        finally:
            for handle in handles:
                handle.remove()
            _innermost.reset(token)

    def visit(self, site: Site, value: Tensor) -> Tensor:
        """The value of `site` after its edits.

        Raises:
            GossamerError: an edit returned something else than a tensor of the same shape.
            Complete: this was the last wanted site.
        """
        for edit in self.edits.get(site, ()):
            value = _same_shape(site, value, edit(value))
        if site in self.missing:
            self.read[site] = value
            self.missing.discard(site)
            if not self.missing:
                raise Complete
        return value

    def _hook(self, site: Site) -> Any:
        module, side = self.anatomy.place(site)
        if side == "output":
            return module.register_forward_hook(self._output(site))
        return module.register_forward_pre_hook(self._input(site) if side == "input" else self._stream(site))

    def _enter(self, stream: Tensor) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return (stream.to(args[0]), *args[1:]) if self.running else None

        return hook

    def _input(self, site: Site) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return (self.visit(site, args[0]), *args[1:]) if self.running else None

        return hook

    def _output(self, site: Site) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if not self.running:
                return None
            if isinstance(output, tuple):
                return (self.visit(site, output[0]), *output[1:])
            return self.visit(site, output)

        return hook

    def _stream(self, site: Site) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if not self.running:
                return
            if site not in self.edits:
                self.visit(site, args[0])
                return
            # The layer keeps the same tensor for its residual sum, so the new value has to go into that tensor. The
            # edit works on a copy: what autograd saves of it must not be overwritten.
            args[0].copy_(self.visit(site, args[0].clone()))

        return hook


def current() -> Pass | None:
    """The innermost pass that is running in this thread."""
    return _innermost.get()


def _same_shape(site: Site, before: Tensor, after: object) -> Tensor:
    if not isinstance(after, Tensor):
        raise GossamerError(
            f"{site}: expected the edit to return a tensor, found {type(after).__name__}; return the value"
        )
    if after.shape != before.shape:
        raise GossamerError(
            f"{site}: expected the edit to return shape {tuple(before.shape)}, found {tuple(after.shape)}; "
            f"an edit keeps the shape of its site"
        )
    return after.to(before)


class _PassThrough(nn.Module):
    """Stands in for a layer that need not run."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The stream as it came, in the form in which the layer would have returned it."""
        return (hidden_states, None) if self.as_tuple else hidden_states


@contextlib.contextmanager
def _layers_from(anatomy: Anatomy, first: int) -> Iterator[None]:
    """Let the model run with layers before `first` passed through; a pass inside a pass gets its own list."""
    before = getattr(anatomy.base, anatomy.layers_name)
    if not first and before is anatomy.layers:
        yield
        return
    stand_in = _PassThrough(anatomy.family.layer_returns_tuple)
    layers = nn.ModuleList([stand_in] * first + list(anatomy.layers[first:])) if first else anatomy.layers
    setattr(anatomy.base, anatomy.layers_name, layers)
    try:
        yield
    finally:
        setattr(anatomy.base, anatomy.layers_name, before)
