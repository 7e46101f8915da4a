"""Where work on many items is done: in this process, or by the workers of a Ray cluster.

An engine gives results back in the order of the items, whoever was faster, so that what is added up from them comes out
the same to the last bit. Sums that torch makes depend on its number of threads: workers have `threads` each, and give
what one process gives with as many.
"""

import contextlib
import functools
import io
import os
import pickle
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from gossamer.errors import GossamerError, UsageError
from gossamer.files import needed
from gossamer.results.record import versions

Item = TypeVar("Item")
Result = TypeVar("Result")
EXTRA = '"gossamer[ray]"'
LOOPBACK = "127.0.0.1"
# How often work is done again whose worker died.
_RETRIES = 3
# Seconds: for a connection, and between looks at whether machines are left that could do the work.
_CONNECT, _LOOK = 5.0, 5.0
# Ray reports home unless it is told otherwise.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


@runtime_checkable
class Engine(Protocol):
    """What does work on many items."""

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], shared: Sequence[object] = ()
    ) -> Iterator[Result]:
        """What `work` makes of each item, in the order of the items, which are taken one by one as they are needed.

        Args:
            work: a function of a module, which changes nothing outside.
            items: what it is called with.
            shared: large objects that items refer to, such as a model: each worker is sent them once.

        Raises:
            GossamerError: what the work raises, or there is nobody left to do it.
        """


class ThisProcess:
    """Work is done here, item by item as results are asked for."""

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], shared: Sequence[object] = ()
    ) -> Iterator[Result]:
        """See :class:`Engine`."""
        return map(work, items)


@dataclass(frozen=True)
class RayCluster:
    """Work is done by the workers of the cluster that this process is connected to: see :func:`ray_cluster`.

    Two items a worker are under way at a time, with their results. Work whose worker died is given to another one.

    Attributes:
        threads: of torch, and CPUs, for each worker.
        gpus: for each worker.
    """

    threads: int = 1
    gpus: float = 0.0

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], shared: Sequence[object] = ()
    ) -> Iterator[Result]:
        """See :class:`Engine`."""
        ray = needed("ray", "--engine ray", EXTRA)
        task = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=_RETRIES)(_work)
        places = {id(one): place for place, one in enumerate(shared)}
        sent = ray.put(_packed(list(shared), {}))
        most, waiting = 2 * self._workers(), deque[Any]()
        try:
            for item in items:
                # In a list, a reference stays one: the worker looks it up once for all of its work.
                waiting.append(task.remote([sent], _packed((work, item), places), self.threads, versions()))
                if len(waiting) == most:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for one in waiting:
                ray.cancel(one, force=True)

    def _result(self, reference: Any) -> Any:
        import ray

        try:
            while not ray.wait([reference], timeout=_LOOK)[0]:
                self._workers()
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            found = str(error).partition("\n")[0]
            raise GossamerError(
                f"ray: a worker that does its work expected, found {1 + _RETRIES} in a row that died ({found}); give "
                "them more memory, or less work at a time"
            ) from error

    def _workers(self) -> int:
        """How many there is room for."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = sum(min(_times(one, "CPU", float(self.threads)), _times(one, "GPU", self.gpus)) for one in alive)
        if not most:
            raise GossamerError(
                f"ray: a machine with {self.threads} CPUs and {self.gpus:g} GPUs expected, found none among the "
                f"{len(alive)} of the cluster; add one"
            )
        return int(most)


def _times(resources: Mapping[str, float], name: str, each: float) -> float:
    return resources.get(name, 0.0) // each if each else float("inf")


@contextlib.contextmanager
def ray_cluster(
    address: str | None = None,
    *,
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0.0,
    object_store: int | None = None,
) -> Iterator[RayCluster]:
    """An engine on a Ray cluster: one that is started on this machine and ends with the block, or one that runs.

    One that is started listens on the loopback interface alone; nothing is reported to Ray's makers. A Ray that the
    caller has connected already is used, and left, as it is.

    Args:
        address: HOST:PORT of a running cluster of which this machine is a part; None: start one here.
        workers: of the one that is started; None: as many as there are CPUs for.
        threads: of torch, for each worker.
        gpus: for each worker; work on a model that lies on a GPU needs one.
        object_store: bytes of memory for what is under way, of the cluster that is started; None: Ray's choice.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or numbers that cannot be meant.
        GossamerError: the cluster has no room for a worker, or could not be started.
    """
    require_cluster(address, workers)
    if threads < 1 or gpus < 0:
        raise UsageError(f"ray: threads >= 1 and gpus >= 0 expected, found {threads} and {gpus}")
    ray = needed("ray", "--engine ray", EXTRA)
    ours = not ray.is_initialized()
    try:
        if ours and address is None:
            count = workers or max(1, (os.cpu_count() or 1) // threads)
            with _alone(ray):
                options = {"num_cpus": count * threads, "object_store_memory": object_store}
                _connect(ray, address="local", include_dashboard=False, **options)
            if (found := ray.util.get_node_ip_address()) != LOOPBACK:
                raise GossamerError(f"ray: a cluster on {LOOPBACK} alone expected, found {found}; connect by ray.init")
        elif ours:
            _connect(ray, address=address)
        engine = RayCluster(threads, gpus)
        engine._workers()
        yield engine
    finally:
        if ours:
            ray.shutdown()


def require_cluster(address: str | None, workers: int | None) -> None:
    """Refuse a cluster that cannot be had, before any work.

    Raises:
        UsageError: no number of workers, Ray is not installed, or nothing listens at the address.
    """
    if workers is not None and (workers < 1 or address is not None):
        raise UsageError(f"ray: at least 1 worker expected, for a cluster of our own, found {workers} at {address}")
    needed("ray", "--engine ray", EXTRA)
    if address is None:
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"ray: HOST:PORT of a running cluster expected, found {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except OSError as error:
        raise UsageError(
            f"ray: a cluster at {address} expected, found none ({error}); start it by 'ray start --head', or leave the "
            "address out"
        ) from error


def _connect(ray: Any, **options: Any) -> None:
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    # A cluster that does not start in time is a bare Exception.
    except Exception as error:
        raise GossamerError(
            f"ray: could not be connected at {options['address']} ({error}); look at the cluster"
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _alone(ray: Any) -> Iterator[None]:
    """Let Ray take this machine for one that knows no clusters, as it does on macOS: only then it listens on the
    loopback interface instead of every one, whatever it is asked for. Whether it did is looked at afterwards."""
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _work(shared: list[Any], packed: bytes, threads: int, expected: Mapping[str, str]) -> Any:
    """What a worker does."""
    if versions() != expected:
        raise UsageError(f"ray: workers with {expected} expected, found {versions()}; install the same versions there")
    work, item = _Unpickler(io.BytesIO(packed), _unpacked(shared[0])).load()
    # Work that needs torch has imported it by now.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
    return work(item)


@functools.lru_cache(maxsize=1)
def _unpacked(reference: Any) -> list[object]:
    """What items share, on its first use by a worker."""
    import ray

    found: list[object] = pickle.loads(ray.get(reference))
    return found


def _packed(value: object, places: Mapping[int, int]) -> bytes:
    """Pickled by Ray's own pickler, but for shared objects, of which only the place is."""
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, one: object) -> int | None:
            return places.get(id(one))

    sink = io.BytesIO()
    Pickler(sink).dump(value)
    return sink.getvalue()


class _Unpickler(pickle.Unpickler):
    """Of what this program's own process packed for its own workers."""

    def __init__(self, file: io.BytesIO, shared: Sequence[object]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, place: Any) -> object:
        return self._shared[place]
