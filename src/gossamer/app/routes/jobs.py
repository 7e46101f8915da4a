"""Jobs over server-sent events: begin, listen, cancel; and steering, which is a job that ends with its listener.

A stream is read by the page with its token in a header, as every answer is: it passes the same checks of Host and
Origin.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from gossamer.app.jobs import Job, Jobs
from gossamer.app.live_work import explain_work, steer_work
from gossamer.app.schema.jobs import ExplainJob, JobList, JobPage, JobRequest, JobShape, SteerJob
from gossamer.app.workbench import Workbench

JobId = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$")]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"}
}
# Seconds between looks at a job, and after which a silent stream says that it is there.
_LOOK, _SILENT = 0.03, 10.0


def job_routes(bench: Workbench) -> APIRouter:
    """Everything that takes longer than an answer."""
    routes, jobs = APIRouter(), bench.jobs

    @routes.post("/jobs")
    def begin(asked: JobRequest) -> JobPage:
        """Put a job into the queue."""
        return _page(bench, _begun(bench, asked.job))

    @routes.get("/jobs")
    def listed() -> JobList:
        """Jobs that wait, run or ended lately."""
        return JobList(**bench.said(), jobs=[_shape(jobs, one) for one in jobs.all()])

    @routes.get("/jobs/{job}")
    def one(job: JobId) -> JobPage:
        """A job with all that it said."""
        return _page(bench, jobs.job(job))

    @routes.post("/jobs/{job}/cancel")
    def cancel(job: JobId) -> JobPage:
        """Ask a job to stop: at once if it waits, else at its next event."""
        found = jobs.job(job)
        found.cancel()
        return _page(bench, found)

    @routes.get("/jobs/{job}/events", responses=_STREAM, response_class=StreamingResponse)
    async def events(job: JobId, request: Request, after: Annotated[int, Query(ge=0)] = 0) -> StreamingResponse:
        """What a job says, from the event number `after` on, until its end."""
        return _stream(jobs.job(job), request, after)

    @routes.post("/steer", responses=_STREAM, response_class=StreamingResponse)
    async def steer(asked: SteerJob, request: Request) -> StreamingResponse:
        """Default beside steered, token by token, then the price; closing the stream cancels it."""
        return _stream(await asyncio.to_thread(_begun, bench, asked), request, 0)

    return routes


def _begun(bench: Workbench, asked: SteerJob | ExplainJob) -> Job:
    if isinstance(asked, SteerJob):
        label = ", ".join(f"{one.mode} {one.feature}" for one in asked.specs)
        return bench.jobs.begin("steer", label, "is cancelled", steer_work(bench, asked))
    return bench.jobs.begin("explain", asked.feature, "goes on", explain_work(bench, asked))


def _shape(jobs: Jobs, job: Job) -> JobShape:
    return JobShape(
        id=job.id, kind=job.kind, label=job.label, state=job.state, on_close=job.on_close, ahead=jobs.ahead(job)
    )


def _page(bench: Workbench, job: Job) -> JobPage:
    return JobPage(**bench.said(), job=_shape(bench.jobs, job), events=list(job.events))


def _stream(job: Job, request: Request, after: int) -> StreamingResponse:
    headers = {"x-gossamer-job": job.id}
    return StreamingResponse(_events(job, request, after), media_type="text/event-stream", headers=headers)


async def _events(job: Job, request: Request, sent: int) -> AsyncIterator[str]:
    """Lines of the stream; a page that was closed is noticed at the next look."""
    with job.listening():
        heard = time.monotonic()
        yield ": a job\n\n"
        while True:
            ended, events = job.ended, job.events[sent:]
            for event in events:
                yield f"id: {sent}\nevent: {event.event}\ndata: {event.model_dump_json()}\n\n"
                sent += 1
            if ended or await request.is_disconnected():
                return
            if events:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT:
                heard = time.monotonic()
                yield ": waiting\n\n"
            await asyncio.sleep(_LOOK)
