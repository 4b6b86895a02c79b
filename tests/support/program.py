"""A real server as a process of a test: started once, waited for by readiness, ended by its own pid."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_WITHIN_SECONDS = 60.0
ENDED_WITHIN_SECONDS = 20.0
LOG_LINES_SHOWN = 25

_PARENT = ThreadPoolExecutor(1, thread_name_prefix="parent")
"""Starts all of them: who dies with its parent dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG)."""

RUNNING: list["Program"] = []
"""Those that run now, so that a test that fails can show their logs."""


class Program:
    """One process and its log. Ended, it may be started again."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, *, ready: Callable[[], bool]) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._ready = ready
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        # Neither options nor proxies of the environment that tests run in are meant for their servers.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PEERD_") and not key.lower().endswith("_proxy")
        }
        with self.log.open("ab") as output:
            # setpriv execs the command, so the pid is the server's own; and none outlives tests that were killed.
            started = _PARENT.submit(
                subprocess.Popen,
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            ).result()
        RUNNING.append(self)
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        self.wait_until(self._ready, "ready")

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until it holds; fail with the log when that takes too long, or the process ends."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not holds():
            if not self.runs:
                pytest.fail(f"{self.name} ended with {self._process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name}: not {what} within {READY_WITHIN_SECONDS:.0f} s\n{self.tail()}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, if it runs, and return its exit code."""
        if self.runs:
            self._process.send_signal(number)
        try:
            return self._process.wait(ENDED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"{self.name} did not end within {ENDED_WITHIN_SECONDS:.0f} s of {number.name}\n{self.tail()}")
        finally:
            if self in RUNNING:
                RUNNING.remove(self)

    def start_again(self) -> None:
        """Start it as it was started, and wait until it is ready."""
        self._process = self._started()
        self.wait_until_ready()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Ended within this block, and back after it."""
        self.end()
        try:
            yield
        finally:
            self.start_again()

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])


@contextmanager
def running(
    name: str, command: Sequence[str | Path], log: Path, *, ready: Callable[[], bool], package: str
) -> Iterator[Program]:
    """A server within this block; `package` is the Debian package that has it."""
    program = Program(name, [installed(str(command[0]), package), *command[1:]], log, ready=ready)
    try:
        program.wait_until_ready()
        yield program
    finally:
        program.end()


def installed(program: str, package: str) -> str:
    """Where a program is; fails with what has to be installed."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{program} is not installed: apt-get install {package}")
    return found
