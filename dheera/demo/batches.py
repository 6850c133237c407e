"""
Batch jobs: each request goes through the endpoint that it names, one in each turn of the reactor,
and the answers become a file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dheera.demo.calls import Answer, Asked, Call, Stream, answer, dumps, parsed_object
from dheera.demo.files import File, Files, paged
from dheera.demo.refusals import Refused, broken, invalid, refused, too_large
from dheera.demo.shelves import Shelf

log = Logger()

Endpoint = Callable[[Call], Answer | Stream]

QUEUED_SECONDS = 0.2
MOST_REQUESTS = 1000
MOST_HELD_BYTES = 64 * 1024 * 1024
_ENDED = frozenset({"SUCCESS", "FAILED", "CANCELLED"})


@define(eq=False, kw_only=True)
class Job:
    """
    One batch, while it runs and after.

    :param waiting: the requests that have not been answered yet, each one line of JSON.
    """

    id: str
    endpoint: str
    model: str | None
    input_files: list[str]
    metadata: dict[str, str]
    created: int
    waiting: deque[bytes]
    total: int
    status: str = "QUEUED"
    started: int | None = None
    ended: int | None = None
    output_file: str | None = None
    failed: int = 0
    outputs: list[bytes] = field(factory=list)

    @property
    def held_bytes(self) -> int:
        """
        What its unanswered requests and its unfinished output take.
        """
        return sum(map(len, self.waiting)) + sum(map(len, self.outputs))

    def card(self) -> dict[str, Any]:
        """
        What is told about it.
        """
        done = self.total - len(self.waiting)
        return {
            "id": self.id,
            "object": "batch",
            "input_files": self.input_files,
            "endpoint": self.endpoint,
            "model": self.model,
            "agent_id": None,
            "metadata": self.metadata or None,
            "output_file": self.output_file,
            "error_file": None,
            "errors": [],
            "status": self.status,
            "created_at": self.created,
            "started_at": self.started,
            "completed_at": self.ended,
            "total_requests": self.total,
            "completed_requests": done,
            "succeeded_requests": done - self.failed,
            "failed_requests": self.failed,
        }


def _shelf() -> Shelf[Job]:
    return Shelf("Batch job", 100, 4 * 1024 * 1024, forgets=True)


@define(eq=False)
class Batches:
    """
    The endpoints under ``/v1/batch/jobs``; beyond 100 jobs the oldest are forgotten.

    :param endpoints: what a batch may call, by its path.
    :param most_held_bytes: unanswered requests and unfinished output of all jobs together.
    """

    _clock: IReactorTime
    _files: Files
    _endpoints: Mapping[str, Endpoint]
    _most_held_bytes: int = MOST_HELD_BYTES
    shelf: Shelf[Job] = field(init=False, factory=_shelf)
    _held_bytes: int = field(init=False, default=0)

    def create(self, call: Call) -> Answer:
        """
        ``POST /v1/batch/jobs``
        """
        asked = call.json()
        endpoint = asked.needed_text("endpoint")
        if endpoint not in self._endpoints:
            raise invalid("enum", ["endpoint"], "Input should be an endpoint that takes batches")
        files = [] if asked.fields.get("input_files") is None else asked.many("input_files")
        files = [name for name in files[:MOST_REQUESTS] if isinstance(name, str)]
        lines = self._lines(asked, files)
        metadata = asked.inner("metadata").fields
        job = Job(
            id=str(uuid4()),
            endpoint=endpoint,
            model=None if asked.text("model") is None else asked.model(),
            input_files=files,
            metadata={name: text for name, text in metadata.items() if isinstance(text, str)},
            created=int(call.now),
            waiting=deque(lines),
            total=len(lines),
        )
        size = job.held_bytes
        if self._held_bytes + size > self._most_held_bytes:
            raise too_large("Too much is waiting in batch jobs: try again when they have ended.")
        self.shelf.put(job.id, job, len(dumps(job.card())))
        self._held_bytes += size
        self._clock.callLater(QUEUED_SECONDS, self._begin, job)
        return answer(job.card())

    def listed(self, call: Call) -> Answer:
        """
        ``GET /v1/batch/jobs``, newest first.
        """
        cards = [job.card() for job in self.shelf]
        return answer({"object": "list", "data": paged(cards, call), "total": len(cards)})

    def told(self, call: Call) -> Answer:
        """
        ``GET /v1/batch/jobs/{id}``
        """
        return answer(self.shelf.get(call.names[0]).card())

    def cancel(self, call: Call) -> Answer:
        """
        ``POST /v1/batch/jobs/{id}/cancel``: a job that has ended stays as it is.
        """
        job = self.shelf.get(call.names[0])
        if job.status not in _ENDED:
            self._end(job, "CANCELLED")
        return answer(job.card())

    def delete(self, call: Call) -> Answer:
        """
        ``DELETE /v1/batch/jobs/{id}``
        """
        job = self.shelf.get(call.names[0])
        if job.status not in _ENDED:
            self._end(job, "CANCELLED")
        self.shelf.drop(job.id)
        return answer({"id": job.id, "object": "batch", "deleted": True})

    def _lines(self, asked: Asked, files: list[str]) -> list[bytes]:
        inline = asked.fields.get("requests")
        if inline is not None:
            lines = [dumps(one) for one in asked.many("requests")[: MOST_REQUESTS + 1]]
        else:
            contents = [self._files.shelf.get(name).content for name in files]
            lines = [line for text in contents for line in text.splitlines() if line.strip()]
        if not lines:
            raise invalid("missing", ["input_files"], "Field required")
        if len(lines) > MOST_REQUESTS:
            message = f"The demo takes at most {MOST_REQUESTS} requests in a batch."
            raise refused(400, message, "invalid_request_error")
        return lines

    def _begin(self, job: Job) -> None:
        if job.status == "QUEUED":
            job.status, job.started = "RUNNING", int(self._clock.seconds())
            self._step(job)

    def _step(self, job: Job) -> None:
        if job.status != "RUNNING":
            return
        if job.waiting:
            line = job.waiting.popleft()
            job.outputs.append(self._line(job, line))
            self._held_bytes += len(job.outputs[-1]) - len(line)
            if self._held_bytes > self._most_held_bytes:
                self._end(job, "FAILED")
            else:
                self._clock.callLater(0, self._step, job)
        else:
            self._keep(job)

    def _keep(self, job: Job) -> None:
        file = File(
            id=str(uuid4()),
            name=f"{job.id}.jsonl",
            purpose="batch",
            sample_type="batch_result",
            source="mistral",
            content_type="application/jsonl",
            created=int(self._clock.seconds()),
            content=b"".join(job.outputs),
        )
        try:
            self._files.keep(file)
        except Refused:
            self._end(job, "FAILED")
        else:
            job.output_file = file.id
            self._end(job, "SUCCESS")

    def _end(self, job: Job, status: str) -> None:
        job.status, job.ended = status, int(self._clock.seconds())
        self._held_bytes -= job.held_bytes
        job.outputs.clear()
        if status != "SUCCESS":
            job.total -= len(job.waiting)
            job.waiting.clear()

    def _line(self, job: Job, line: bytes) -> bytes:
        """
        One line of the output file, in the shape that Mistral's have.
        """
        name: object = None
        try:
            request = parsed_object(line)
            name = request.get("custom_id")
            status, body = 200, self._answer(job, request)
        except Refused as no:
            job.failed += 1
            status, body = no.status, dumps(no.body)
        except Exception:  # noqa: BLE001 - one request must not end the job
            log.failure("A request of a batch failed")
            job.failed += 1
            status, body = broken().status, dumps(broken().body)
        head = {"id": f"batch-{uuid4().hex}", "custom_id": name if isinstance(name, str) else None}
        # The answer is JSON already, and may be large: it is set in rather than parsed again.
        return b'%b,"response":{"status_code":%d,"body":%b},"error":null}\n' % (
            dumps(head)[:-1],
            status,
            body,
        )

    def _answer(self, job: Job, request: Mapping[str, Any]) -> bytes:
        asked = request.get("body")
        if not isinstance(asked, dict):
            raise invalid("missing", ["body"], "Field required")
        body = {"model": job.model} | asked | {"stream": False}
        call = Call(now=self._clock.seconds(), body=dumps(body))
        answered = self._endpoints[job.endpoint](call)
        if isinstance(answered, Stream):
            raise broken()
        return answered.body
