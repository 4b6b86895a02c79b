"""The generated routes with stand-ins for the handlers behind them, and the description that both come from."""

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

import app.api
import app.routes

ROOT = Path(__file__).parents[2]
STOOD_IN = ("mirror", "files", "operations", "page")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The description, as YAML has it."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "openapi" / "peerd.yaml").read_text())
    return loaded


@dataclass
class Call:
    """One call of a handler: which one, and what it was given."""

    handler: str
    request: Request
    arguments: dict[str, Any]


@dataclass
class Handlers:
    """Stand-ins for app.routes.mirror, files, operations and page. They note each call and answer with `answers[handler]`."""

    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def module(self, tag: str, names: set[str]) -> ModuleType:
        module = ModuleType(f"app.routes.{tag}")
        for name in names:
            setattr(module, name, self._handler(f"{tag}.{name}"))
        return module

    def _handler(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def handle(request: Request, **arguments: Any) -> Any:
            self.calls.append(Call(name, request, arguments))
            return self.answers.get(name, JSONResponse({"handler": name}))

        return handle

    @property
    def last(self) -> Call:
        return self.calls[-1]


@pytest.fixture
def handlers(document: dict[str, Any]) -> Iterator[Handlers]:
    """The stand-ins, in the place of the real modules for as long as a test runs."""
    handlers = Handlers()
    with pytest.MonkeyPatch.context() as patch:
        for tag in STOOD_IN:
            module = handlers.module(tag, _handler_names(document, tag))
            patch.setitem(sys.modules, module.__name__, module)
            patch.setattr(app.routes, tag, module, raising=False)
        yield handlers


def _handler_names(document: dict[str, Any], tag: str) -> set[str]:
    return {
        operation.get("x-handler", operation["operationId"])
        for path in document["paths"].values()
        for method, operation in path.items()
        if method != "parameters" and operation["tags"] == [tag]
    }


@pytest.fixture
def door(handlers: Handlers) -> Iterator[FastAPI]:
    """An application of the generated routes alone, each before a stand-in."""
    kept = _taken_out("app.api.routers")
    try:
        from app.api.routers import routers

        application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        for router in routers:
            application.include_router(router)
        yield application
    finally:
        _taken_out("app.api.routers")
        sys.modules.update(kept)
        if "app.api.routers" in kept:
            app.api.routers = kept["app.api.routers"]


def _taken_out(package: str) -> dict[str, ModuleType]:
    """The package and what is below it, no longer known to Python: the next import makes it new."""
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


@dataclass
class Served:
    """The application behind a real server on loopback.

    Attributes:
        asked: the paths that were asked for, in order.
    """

    port: int
    asked: list[str]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def served(door: FastAPI) -> Iterator[Served]:
    """The application of `door` served by uvicorn, for clients that no transport inside this process can stand for."""
    asked: list[str] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await door(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(noting, log_config=None, lifespan="off", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="door")
        thread.start()
        try:
            yield Served(listener.getsockname()[1], asked)
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()
