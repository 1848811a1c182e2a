"""The parent's side of a measuring process."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from stale_edge.benchmarking.jobs import Job
from stale_edge.config import to_dict
from stale_edge.errors import StaleEdgeError

# Libraries with their own threads read these variables when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class JobProcess:
    """A fresh process that measures one job, alive until `finish` or the end of a `with` block.

    Raises:
        StaleEdgeError: from every method, if the process died or refused; the message has its last output.
    """

    def __init__(self, job: Job, *, name: str) -> None:
        self.name = name
        self.about: dict[str, float] = {}
        """Measurements of the process while it built the job."""
        self._errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(job.threads))
        environment |= {"TOKENIZERS_PARALLELISM": "false", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stale_edge.benchmarking.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self.send(**to_dict(job))

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> int | None:
        """Wait until the job is built; return the bytes of its model, if it has one."""
        answer = self.receive()
        self.about = answer["about"]
        return None if answer["model_bytes"] is None else int(answer["model_bytes"])

    def warm_up(self) -> tuple[list[float], bool]:
        """Run until times are stable; return the seconds of each call, and whether they became stable."""
        answer = self.ask(do="warm")
        return answer["seconds"], answer["stable"]

    def trial(self, calls: int, *, refresh: bool) -> list[float]:
        """Return the seconds of each of `calls` timed calls; if `refresh`, an untimed call comes first."""
        seconds: list[float] = self.ask(do="trial", calls=calls, refresh=refresh)["seconds"]
        return seconds

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question listed in `jobs.py`, and wait for the answer."""
        self.send(**question)
        return self.receive()

    def finish(self) -> dict[str, int | None]:
        """Return `peak_rss_bytes` and `peak_device_bytes`, and end the process."""
        answer = self.ask(do="finish")
        self.close()
        return answer

    def close(self) -> None:
        """End the process, even in the middle of its work."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                self._pipe("stdin").close()
            try:
                self._process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(OSError):
            self._pipe("stdin").close()
        self._pipe("stdout").close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, **values: Any) -> None:
        """Send a question without waiting, so that several processes work at once; `receive` gives the answer."""
        pipe = self._pipe("stdin")
        with contextlib.suppress(BrokenPipeError):  # the process is dead; receive reports why
            pipe.write(json.dumps(values) + "\n")
            pipe.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to `send`."""
        line = self._pipe("stdout").readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            words = [words for words in self._errors.read().splitlines() if words.strip()]
            cause = f"signal {-status}" if status < 0 else f"exit status {status}"
            hint = "; was memory short?" if status == -9 else ""
            raise StaleEdgeError(
                f"the process that measured {self.name} died with {cause}{hint}: {words[-1] if words else 'no message'}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StaleEdgeError(f"{self.name} cannot be measured: {answer['error']}")
        return answer

    def _pipe(self, which: str) -> Any:
        return getattr(self._process, which)
