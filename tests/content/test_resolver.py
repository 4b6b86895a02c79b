"""What a name stands for, when upstream is silent."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from app.content import resolver
from app.content.digest import Digest
from app.content.layout import Layout
from app.content.names import Name, NameTable, Resolution
from app.errors import UpstreamUnavailable

NAME = Name.of_tag("reg.test", "app", "v1")
REMEMBERED = Resolution(size=3, digest=Digest.parse(f"sha256:{'0' * 64}"), media_type="application/json")


class Members:
    """Others, who remember."""

    async def find(self, keys: object) -> None:
        return None

    async def resolve(self, name: Name) -> Resolution | None:
        return REMEMBERED if name == NAME else None


async def test_a_member_s_word_is_taken_and_nobody_misses_how_upstream_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio is told that the error was seen: it would log a traceback."""
    monkeypatch.setattr(resolver, "UPSTREAM_PATIENCE_SECONDS", 0.05)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    failed = asyncio.Event()

    async def ask() -> Resolution:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as anyio does with a connection that fails at that moment
            failed.set()
        raise UpstreamUnavailable("connection refused")

    names = resolver.Resolver(NameTable(Layout(tmp_path)), [Members()], ttl_seconds=60)
    assert await names.resolve(NAME, ask) == REMEMBERED
    await failed.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
