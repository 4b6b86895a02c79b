"""An open file is closed by whoever lets go of it last, from any thread, and nobody gets hold of it after that."""

import gc
import os
import threading
import weakref
from pathlib import Path

import pytest

from app.content import descriptor
from app.content.descriptor import Descriptor, nameless
from app.content.entry import Entry
from app.content.key import ContentKey
from app.content.layout import Meta

SECONDS_MAX = 20


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_it_is_closed_with_the_last_reference(tmp_path: Path) -> None:
    file = nameless(tmp_path)
    fd, other = file.fileno(), file
    del file
    assert is_open(fd)
    del other
    assert not is_open(fd)


def test_it_is_closed_where_only_the_garbage_collector_finds_it(tmp_path: Path) -> None:
    class Holder:
        pass

    holder = Holder()
    holder.itself, holder.file = holder, nameless(tmp_path)  # type: ignore[attr-defined]
    fd = holder.file.fileno()  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert not is_open(fd)


class SlowClose:
    """close(2) as it is on a disk that has to write first: others run meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._close = os.close
        monkeypatch.setattr(descriptor.os, "close", self)

    def __call__(self, fd: int) -> None:
        self.begun.set()
        assert self.may_end.wait(SECONDS_MAX)
        self._close(fd)


def test_nobody_gets_hold_of_what_another_thread_is_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [nameless(tmp_path)]
    reference: weakref.ref[Descriptor] = weakref.ref(held[0])
    slow = SlowClose(monkeypatch)
    closing = threading.Thread(target=held.clear)
    closing.start()
    assert slow.begun.wait(SECONDS_MAX)
    seen = reference()
    slow.may_end.set()
    closing.join()
    assert seen is None


def test_a_content_opens_its_file_again_where_another_thread_is_closing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry.create(Meta(ContentKey("url:x"), 100, 100), tmp_path / "x")
    held = [entry.file()]
    slow = SlowClose(monkeypatch)
    closing = threading.Thread(target=held.clear)
    closing.start()
    assert slow.begun.wait(SECONDS_MAX)
    file = entry.file()
    slow.may_end.set()
    closing.join()
    os.pwrite(file.fileno(), b"right", 0)
    assert (tmp_path / "x" / "data").read_bytes() == b"right"
