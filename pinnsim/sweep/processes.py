"""Worker processes on this machine: each compiles once; one that dies is replaced, and what it held is lost.

No wait is without an end: a worker that is not ready in time is killed, and counts as one that never began; one that
closed its output, but lives, is killed as well.
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pinnsim.errors import PinnsimError, Problem
from pinnsim.sweep.engine import AbstractEngine, Arrays, Done, Job, Lost, Result, Stopping
from pinnsim.sweep.worker import hear

_WAIT = 0.2  # seconds between looks at whether to stop
_BEGIN = 600.0  # seconds that a worker may take to be ready: it imports, and looks the model up
_END = 10.0  # seconds that a worker may take to end, once it said its last word or was killed
_STILLBORN, _SLAIN = 3, 30  # workers in a row that ended, or were killed, before they were ready

_Message: TypeAlias = tuple[dict[str, Any], Arrays]
_Heard: TypeAlias = "queue.Queue[tuple[_Worker, _Message | None]]"


class _Worker:
    """A process, the job it has, and a thread that hears it."""

    def __init__(self, command: Sequence[str], heard: _Heard, own: Mapping[str, str]) -> None:
        # A session of its own: Ctrl-C is for the one who holds the store, who ends workers himself.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=os.name != "nt",
            env={**os.environ, **own},
        )
        self.job: Job | None = None
        self.ready = False
        self.fault = ""  # for what it was killed
        self.begun = time.monotonic()
        self._thread = threading.Thread(target=self._listen, args=(heard,), daemon=True)
        self._thread.start()

    def _listen(self, heard: _Heard) -> None:
        source = self.process.stdout
        while source is not None and (message := hear(source)) is not None:
            heard.put((self, message))
        try:
            self.process.wait(_END)
        except subprocess.TimeoutExpired:
            self.fault = self.fault or "closed its output"
            self.kill()
            self.process.wait()
        heard.put((self, None))

    def give(self, job: Job) -> None:
        """Hands a job over; of a worker that is dying the thread tells."""
        self.job = job
        text = f'{{"chunk": {job.chunk}, "start": {job.start}, "stop": {job.stop}}}\n'
        try:
            if self.process.stdin is not None:
                self.process.stdin.write(text.encode())
                self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def kill(self) -> None:
        """Kills it, and what it started: a child that holds its output would keep that open."""
        with contextlib.suppress(OSError):
            if os.name == "nt" or self.process.returncode is not None:
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kills it and waits for its end."""
        self.kill()
        self._thread.join(_END)
        if self._thread.is_alive():
            return  # a stream that is being read cannot be closed
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Processes(AbstractEngine):
    """Worker processes.

    **Arguments:** `command`: starts one, which answers as `pinnsim.sweep.worker.serve` does; `workers`: how many;
    `begin`: seconds that one may take to be ready; `environments`: what each one's environment has of its own,
    (worker,), which a worker in its place inherits.

    **Raises** `E_USAGE` where workers end, or are not ready in time, again and again.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        begin: float | int = _BEGIN,
        environments: Sequence[Mapping[str, str]] = (),
    ) -> None:
        if workers < 1:
            raise PinnsimError.of("E_USAGE", f"At least 1 worker is needed, but {workers} were asked for.")
        self.command, self.workers, self.begin = list(command), workers, begin
        self._heard: _Heard = queue.Queue()
        self._waiting: list[Job] = []
        self._stillborn = 0
        self._own = list(environments) or [{}] * workers
        self._staff = [_Worker(self.command, self._heard, own) for own in self._own]

    @property
    def capacity(self) -> int:
        return self.workers + 1

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes, with the points they have in hand."""
        return [worker.process.pid for worker in self._staff]

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._hand_out()

    def collect(self, stopping: Stopping) -> list[Result]:
        found: list[Result] = []
        while not found and not stopping():
            self._kill_the_late()
            try:
                worker, message = self._heard.get(timeout=_WAIT)
            except queue.Empty:
                continue
            found += self._after(worker, message)
            self._hand_out()
        return found

    def close(self) -> None:
        for worker in self._staff:
            worker.end()
        self._staff = []

    def _hand_out(self) -> None:
        for worker in self._staff:
            if self._waiting and worker.ready and worker.job is None:
                worker.give(self._waiting.pop(0))

    def _kill_the_late(self) -> None:
        for worker in self._staff:
            if not worker.ready and not worker.fault and time.monotonic() - worker.begun > self.begin:
                worker.fault = f"not ready in {self.begin:g} s"
                worker.kill()

    def _after(self, worker: _Worker, message: _Message | None) -> list[Result]:
        if message is None:
            return self._replace(worker)
        head, arrays = message
        if "errors" in head:
            raise PinnsimError(Problem(code, text) for code, text in head["errors"])
        if "ready" in head:
            worker.ready, self._stillborn = True, 0
            return []
        job, worker.job = worker.job, None
        return [Done(job, arrays, head["seconds"])] if job is not None else []

    def _replace(self, worker: _Worker) -> list[Result]:
        reason = worker.fault or _ending(worker.process.returncode)
        if not worker.ready:
            self._stillborn += 1
            slain = (worker.process.returncode or 0) < 0 and not worker.fault
            if self._stillborn >= max(_SLAIN if slain else _STILLBORN, self.workers):
                raise PinnsimError.of(
                    "E_USAGE",
                    f"{self._stillborn} workers ended before they were ready (the last: {reason}); look at what "
                    f"'{Path(self.command[0]).name} {' '.join(self.command[1:])}' says.",
                )
        worker.end()
        place = self._staff.index(worker)
        self._staff[place] = _Worker(self.command, self._heard, self._own[place])
        return [Lost(worker.job, reason)] if worker.job is not None else []


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            pass
    return f"exit status {status}"
