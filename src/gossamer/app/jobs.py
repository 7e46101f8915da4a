"""Work that takes longer than a request: one worker, a short queue, and events that a page reads as they come.

Every event of a job is kept with it, so that a page which lost its connection asks for those it lacks, and a job that
was closed on is found again in the list.
"""

import logging
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from gossamer.app.live import MOST_WAITING, BusyError
from gossamer.app.run_folder import UnknownError
from gossamer.app.schema.jobs import Ended, JobEvent, Started
from gossamer.display import short_repr
from gossamer.errors import GossamerError

State = Literal["waiting", "running", "done", "failed", "cancelled"]
# What becomes of a job when the last page that listens to it is closed.
OnClose = Literal["is cancelled", "goes on"]
Work = Callable[["Job"], None]
# Jobs that are kept after their end.
_KEPT = 32
_LOG = logging.getLogger(__name__)


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """Raised in the work of a job that nobody wants any more."""


class Job:
    """One piece of work.

    Attributes:
        id: what requests call it.
        kind, label: what is done.
        on_close: what becomes of it when the last page that listens is closed.
        state: where it is.
        events: all that it said so far; they are only added to.
    """

    def __init__(self, kind: str, label: str, on_close: OnClose, work: Work) -> None:
        self.id = secrets.token_hex(8)
        self.kind, self.label, self.on_close = kind, label, on_close
        self.state: State = "waiting"
        self.events: list[JobEvent] = []
        self._work, self._unwanted, self._lock, self._listening = work, threading.Event(), threading.Lock(), 0

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.kind} {self.label}"
        yield self.state

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("done", "failed", "cancelled")

    def say(self, event: JobEvent) -> None:
        """Add an event.

        Raises:
            Cancelled: nobody wants it any more.
        """
        if self._unwanted.is_set():
            raise Cancelled
        self.events.append(event)

    def cancel(self) -> None:
        """Ask the work to stop; it does at its next event."""
        with self._lock:
            self._unwanted.set()
            if self.state == "waiting":
                self._end("cancelled", "")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While a page reads the events; after the last one the job is cancelled, or goes on."""
        with self._lock:
            self._listening += 1
        try:
            yield
        finally:
            with self._lock:
                self._listening -= 1
                alone = self._listening == 0 and not self.ended
            if alone and self.on_close == "is cancelled":
                self.cancel()

    def run(self) -> None:
        """Do the work, in the worker's thread; nothing that goes wrong leaves it."""
        with self._lock:
            if self.ended:
                return
            self.state = "running"
        try:
            self.say(Started(event="started"))
            self._work(self)
        except Cancelled:
            self._end("cancelled", "")
        except (MemoryError, torch.OutOfMemoryError):
            self._end("failed", "not enough memory here; close other programs, or ask for less")
        except GossamerError as error:
            self._end("failed", str(error))
        except Exception as error:
            _LOG.exception("job %s", self.label)
            self._end("failed", f"an error of the workbench itself ({type(error).__name__}); its terminal says more")
        else:
            self._end("done", "")

    def _end(self, state: Literal["done", "failed", "cancelled"], message: str) -> None:
        self.events.append(Ended(event=state, message=message))
        self.state = state


class Jobs:
    """A queue with one worker, whose thread begins with the first job."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queue: queue.Queue[Job] = queue.Queue()
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def begin(self, kind: str, label: str, on_close: OnClose, work: Work) -> Job:
        """Put a job at the end of the queue.

        Raises:
            BusyError: too many wait.
        """
        with self._lock:
            if sum(one.state == "waiting" for one in self._jobs.values()) >= MOST_WAITING:
                raise BusyError(f"at most {MOST_WAITING} jobs can wait; wait for them, or cancel some")
            job = Job(kind, label, on_close, work)
            self._jobs[job.id] = job
            ended = [one.id for one in self._jobs.values() if one.ended]
            for identifier in ended[: max(0, len(ended) - _KEPT)]:
                del self._jobs[identifier]
            self._queue.put(job)
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work_on, name="jobs", daemon=True)
                self._worker.start()
        return job

    def all(self) -> list[Job]:
        """Those that wait, run, or ended lately; in the order in which they came."""
        with self._lock:
            return list(self._jobs.values())

    def job(self, identifier: str) -> Job:
        """One of them.

        Raises:
            UnknownError: there is none of that id, or it ended long ago.
        """
        with self._lock:
            if (found := self._jobs.get(identifier)) is None:
                raise UnknownError(f"job {identifier}: not known; it ended long ago, or the server was started again")
            return found

    def ahead(self, job: Job) -> int:
        """How many are to be worked on before it."""
        if job.state != "waiting":
            return 0
        before = self.all()
        return sum(not one.ended for one in before[: before.index(job)]) if job in before else 0

    def _work_on(self) -> None:
        while True:
            self._queue.get().run()
