"""One forward pass in which sites are read and edited through hooks that exist only while it runs."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule as Compiled

from gossamer.errors import GossamerError, UsageError
from gossamer.model.anatomy import Anatomy
from gossamer.model.norm import Norm
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
        self.pending = set(edits)
        self.started = False
        self.mask: Tensor | None = None
        self.covered = 0
        sites = {*edits, *self.missing}
        self.attention = {site for site in sites if site.facts.inside_attention}
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
                first = self.anatomy.layers[layer] if layer < len(self.anatomy.layers) else self.anatomy.norm
                handles.append(first.register_forward_pre_hook(self._enter(stream)))
            handles.extend(self._hook(site) for site in self.hooked)
            with _layers_from(self.anatomy, self.entry[0] if self.entry else 0), uncompiled(self.anatomy.modules):
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
            self.covered = value.shape[site.facts.axes.index("query" if "query" in site.facts.axes else "pos")]
            value = _same_shape(site, value, edit(value))
        self.pending.discard(site)
        if site in self.missing:
            self.read[site] = value
            self.missing.discard(site)
            if not self.missing:
                self.require_reached(before=site)
                raise Complete
        return value

    def require_reached(self, before: Site | None = None) -> None:
        """After the pass, or when it ends early: every wanted site was read, every edit (`before` a site) was made.

        Raises:
            GossamerError: one was never reached, so that the outcome would be that of another intervention.
        """
        missed = self.missing | {site for site in self.pending if before is None or site < before}
        if missed:
            raise GossamerError(
                f"{min(missed)} is never reached in a forward pass of this {self.anatomy.family.name} model: correct "
                f"the Family (module paths), or load the model again if its modules were compiled or replaced since"
            )

    def _hook(self, site: Site) -> Any:
        module, touch = self.anatomy.place(site)
        if touch == "input":
            return module.register_forward_pre_hook(self._input(site), with_kwargs=True)
        if touch == "stream":
            return module.register_forward_pre_hook(self._stream(site))
        if touch == "output":
            return module.register_forward_hook(self._output(site, self.anatomy.multiplier(site)))
        if touch == "heads":
            return module.register_forward_hook(self._heads(site))
        return module.register_forward_hook(self._norm(site, self.anatomy.norm_of(module), touch == "scale"))

    def _enter(self, stream: Tensor) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return (stream.to(args[0]), *args[1:]) if self.running else None

        return hook

    def _input(self, site: Site) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self.running:
                return None
            if args:
                return (self.visit(site, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self.visit(site, kwargs["hidden_states"])}

        return hook

    def _output(self, site: Site, multiplier: float) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if not self.running:
                return None
            found = output[0] if isinstance(output, tuple) else output
            if multiplier == 1:
                changed = self.visit(site, found)
            else:
                value = found * multiplier
                changed = carried(found, value, self.visit(site, value), lambda after: after / multiplier)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

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

    def _heads(self, site: Site) -> Callable[..., Any]:
        which: Any = site.kind[0]

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not self.running:
                return None
            # A copy: some models clamp their projections in place.
            value = self.visit(site, self.anatomy.heads(output, which).clone())
            if site not in self.edits:
                return None
            output = output.clone()
            self.anatomy.heads(output, which).copy_(value)
            return output

        return hook

    def _norm(self, site: Site, norm: Norm, of_scale: bool) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not self.running:
                return None
            x = args[0]
            scale = norm.scale(x)
            value = scale if of_scale else norm.normalized(x, scale)
            edited = self.visit(site, value)
            if site not in self.edits:
                return None

            def normed(after: Tensor) -> Tensor:
                return norm.output(norm.normalized(x, after) if of_scale else after, output.dtype)

            return carried(output, value, edited, normed)

        return hook


def carried(found: Tensor, before: Tensor, after: Tensor, result: Callable[[Tensor], Tensor]) -> Tensor:
    """What an edit of something inside a computation makes of its outcome.

    Where the edit changed nothing the outcome stays as `found`, to the bit; elsewhere it is `result(after)`. Gradients
    are those of `result(after)` everywhere.
    """
    return found if after is before else kept(found, result(after), after != before)


def kept(found: Tensor, new: Tensor, changed: Tensor) -> Tensor:
    """`new` where `changed`, else the value of `found`; the gradient is that of `new` everywhere."""
    return torch.where(changed, new, found.detach() + (new - new.detach()))


def current() -> Pass | None:
    """The innermost pass that is running in this thread."""
    return _innermost.get()


def positions() -> Int[Tensor, "batch pos"]:
    """Inside an edit: which positions of their rows the tensor that it was given covers, from 0; -1 at padding.

    Positions count real tokens, so that padding on the left does not move them. In a pass over whole prompts these are
    all positions; while text is generated they are those of the newest tokens, since a pass then runs on no others
    (at `k` and `v`: all positions so far; at `scores` and `pattern` they are the queries').

    Raises:
        UsageError: no edit is running.
    """
    run = current()
    if run is None or run.mask is None or not run.covered:
        raise UsageError("positions: expected to be called by an edit while a pass runs, found none running")
    counted = torch.where(run.mask, run.mask.cumsum(dim=1) - 1, -1)
    return counted[:, -run.covered :]


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


@contextlib.contextmanager
def uncompiled(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let modules that torch.compile has compiled run as they were written: compiled code knows none of our hooks."""
    compiled = [module for module in modules if module._compiled_call_impl is not None or isinstance(module, Compiled)]
    before = [(module, "forward" if isinstance(module, Compiled) else "_compiled_call_impl") for module in compiled]
    values = [getattr(module, name) for module, name in before]
    for module, name in before:
        setattr(module, name, module._orig_mod.__call__ if isinstance(module, Compiled) else None)
    try:
        yield
    finally:
        for (module, name), value in zip(before, values, strict=True):
            setattr(module, name, value)


@contextlib.contextmanager
def evaluating(hf: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout), and afterwards the mode each module was found in."""
    training = [module for module in hf.modules() if module.training] if hf.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
