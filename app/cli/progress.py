"""How far a pull is: a bar on a terminal, plain lines elsewhere, nothing where a summary in JSON was asked for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, Self

import rich.progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from app.cli.units import bytes_text, seconds_text, share_text
from app.client import api
from app.client.fetch import Fetched, Wanted
from app.client.node import Node
from app.client.tally import Tally
from app.errors import PeerdError

_ASK_EVERY_SECONDS: Final = 0.5
_ACCOUNT_WITHIN_SECONDS: Final = 2.0
_LINE_EVERY_SECONDS: Final = 10.0


@contextmanager
def accounted(node: Node, tally: Tally) -> Iterator[None]:
    """Keeps asking the node where the bytes came from, and once more at the end. A node that does not say is no error."""
    over = threading.Event()
    patient_for_little = replace(node, silence_seconds=_ACCOUNT_WITHIN_SECONDS)

    def ask() -> None:
        with suppress(PeerdError):
            tally.learn(api.transfers(patient_for_little).transfers)

    def keep_asking() -> None:
        while not over.wait(_ASK_EVERY_SECONDS):
            ask()

    thread = threading.Thread(target=keep_asking, name="transfers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ask()


class _Amount(rich.progress.ProgressColumn):
    """`12.0 MiB of 64.0 MiB`."""

    def render(self, task: rich.progress.Task) -> Text:
        whole = "" if task.total is None else f" of {bytes_text(task.total)}"
        return Text(f"{bytes_text(task.completed)}{whole}")


class _Rate(rich.progress.ProgressColumn):
    """`117.3 MiB/s`."""

    def render(self, task: rich.progress.Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{bytes_text(rate)}/s")


class Bar(Tally):
    """A line for each content and one for all, redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=None),
            _Amount(table_column=Column(justify="right", no_wrap=True)),
            _Rate(table_column=Column(justify="right", no_wrap=True)),
            rich.progress.TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._sizes: dict[str, int] = {}
        self._all = self._bar.add_task("all", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._show_share()
        self._bar.stop()

    def began(self, wanted: Wanted, correlation_id: str, size: int | None, source: str) -> None:
        """Draw a line for it."""
        super().began(wanted, correlation_id, size, source)
        if wanted.name not in self._tasks:
            self._tasks[wanted.name] = self._bar.add_task(short(wanted.name), total=size)
            self._sizes[wanted.name] = size or 0
            self._bar.update(self._all, total=sum(self._sizes.values()) or None)

    def received(self, wanted: Wanted, correlation_id: str, count: int) -> None:
        """Draw its line further."""
        super().received(wanted, correlation_id, count)
        self._bar.advance(self._tasks[wanted.name], count)
        self._bar.advance(self._all, count)
        self._show_share()

    def resumed(self, wanted: Wanted, offset: int, reason: str) -> None:
        """Say so above the lines."""
        super().resumed(wanted, offset, reason)
        self._bar.console.print(f"{short(wanted.name)} goes on at byte {offset}: {reason}", markup=False)

    def _show_share(self) -> None:
        by_source = self.by_source()
        share = share_text(by_source.get("peer", 0), sum(by_source.values()))
        self._bar.update(self._all, description=f"all, {share} from peers")


class Lines(Tally):
    """A line when a content is there, and one now and then while it takes long."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._began = time.monotonic()
        self._next_line = self._began + _LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def received(self, wanted: Wanted, correlation_id: str, count: int) -> None:
        """Say how far it is, when nothing was said for a while."""
        super().received(wanted, correlation_id, count)
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + _LINE_EVERY_SECONDS
            rate = self.size / (now - self._began)
            self._print(f"{short(wanted.name)}: {bytes_text(self.size)} in all, {bytes_text(rate)}/s")

    def resumed(self, wanted: Wanted, offset: int, reason: str) -> None:
        """Say so."""
        super().resumed(wanted, offset, reason)
        self._print(f"{short(wanted.name)} goes on at byte {offset}: {reason}")

    def ended(self, fetched: Fetched) -> None:
        """Say so."""
        self._print(
            f"{short(fetched.wanted.name)}: {bytes_text(fetched.size)}, verified"
            if fetched.wanted.digest
            else f"{short(fetched.wanted.name)}: {bytes_text(fetched.size)}"
        )

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Silent(Tally):
    """Counts and says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def watcher(console: Console, *, silent: bool) -> Bar | Lines | Silent:
    """The one that suits where the words go to."""
    if silent:
        return Silent()
    return Bar(console) if console.is_terminal else Lines(console)


def short(name: str) -> str:
    """`…@sha256:0123456789ab` of a name with a digest, else its last 50 characters."""
    repository, at, digest = name.partition("@")
    if at:
        return f"{repository.rpartition('/')[2]}@{digest[:19]}"
    return name if len(name) <= 50 else f"…{name[-49:]}"


def summary_line(name: str, tally: Tally, seconds: float) -> str:
    """One sentence on what came from where."""
    by_source = tally.by_source()
    size = tally.size
    shares = ", ".join(
        f"{share_text(count, sum(by_source.values()))} from {source}" for source, count in sorted(by_source.items())
    )
    return f"{name}: {bytes_text(size)} in {seconds_text(seconds)}, {bytes_text(size / max(seconds, 1e-9))}/s; {shares or 'no bytes'}"
