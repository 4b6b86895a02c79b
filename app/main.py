"""Runs one node until it is told to leave, and puts the API in front of it."""

import asyncio
import gc
import logging
import signal
import sys

import anyio.lowlevel
import uvloop
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import __version__
from app.api.routers import routers
from app.assembly import running
from app.content.inheritance import CacheLocked
from app.errors import PeerdError
from app.kubernetes import reporting
from app.observability import logs
from app.observability.instrument import instrument
from app.routes import answers
from app.routes.node import Node
from app.server.doors import DoorError
from app.settings import Settings
from peerd_gossip import GossipError

log = logging.getLogger("peerd")


def serve(settings: Settings, environ: dict[str, str] | None = None) -> int:
    """Run one node until SIGTERM or SIGINT. Returns the exit code."""
    logs.set_up(level=settings.log_level, form=settings.log_format, node=settings.node_name, version=__version__)
    failures: list[BaseException] = []
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_told(settings, environ or {}))
    except* (DoorError, CacheLocked, GossipError, OSError) as errors:
        failures = _leaves(errors)
    for failure in failures:
        sys.stderr.write(f"peerd: {failure}\n")
    return 1 if failures else 0


def _leaves(errors: BaseException) -> list[BaseException]:
    if isinstance(errors, BaseExceptionGroup):
        return [leaf for error in errors.exceptions for leaf in _leaves(error)]
    return [errors]


async def _serve_until_told(settings: Settings, environ: dict[str, str]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    # anyio, below httpx, imports a part of itself with its first call: not while the first requests of a crowd wait for it.
    await anyio.lowlevel.checkpoint()
    async with (
        reporting(settings, environ) as reports,
        running(await reports.placed(settings), environ, application) as node,
        reports.watching(node),
    ):
        _keep_what_was_imported()
        log.info("%s is ready", settings.node_name)
        await told.wait()
        log.info("%s leaves", settings.node_name)
        node.state = "draining"
        reports.leaves()
        if node.gossip is not None:
            await node.gossip.leave()


def _keep_what_was_imported() -> None:
    """The garbage collector need not go through it again and again: the loop stands still meanwhile."""
    gc.collect()
    gc.freeze()


def application(node: Node) -> FastAPI:
    """The API behind `--http-addr`."""
    app = FastAPI(title="peerd", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.node = node
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(PeerdError, answers.on_peerd_error)
    app.add_exception_handler(HTTPException, answers.on_http_error)
    app.add_exception_handler(RequestValidationError, answers.on_invalid)
    app.add_exception_handler(Exception, answers.on_defect)
    instrument(app, node.metrics)
    return app
