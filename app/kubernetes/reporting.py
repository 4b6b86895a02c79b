"""Joins one node's life to its pod: what happens to it becomes events, and its zone is its Kubernetes node's."""

import asyncio
import logging
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from app.content.tasks import Tasks
from app.kubernetes.ledger import Ledger
from app.kubernetes.lifecycle import Facts, Lifecycle, Occurrence
from app.kubernetes.pod import pod_of
from app.kubernetes.recorder import Recorder
from app.observability.logs import cut_secrets
from app.operations.loads import load_of
from app.routes.node import Node
from app.settings import Settings
from app.settings.values import ZoneName
from peerd_gossip import MemberState

if TYPE_CHECKING:
    from app.kubernetes.api import ApiServer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ZONE_SECONDS = 5.0
"""How long a node's start waits for its zone. A pod's network may not be there in its first moments."""

ZONE_AGAIN_SECONDS = 0.5


class Reports:
    """What this node's pod is told of it; outside a cluster nobody is told anything."""

    def __init__(self, server: "ApiServer | None", tell: Callable[[Occurrence], None]) -> None:
        self._server = server
        self._tell = tell
        self._life = Lifecycle()
        tell(self._life.starts())

    async def placed(self, settings: Settings) -> Settings:
        """`settings` with the zone of the pod's node, where none is given. Takes ZONE_SECONDS at most."""
        if self._server is None or settings.zone is not None:
            return settings
        zone = await _aside(_zone, self._server, within=ZONE_SECONDS)
        return settings.model_copy(update={"zone": zone})

    @asynccontextmanager
    async def watching(self, node: Node) -> AsyncIterator[None]:
        """Tell what becomes of a node that serves, within this block."""
        async with Tasks() as tasks:
            if self._server is not None:
                tasks.create_task(self._watch(node), name="kubernetes events")
            yield

    def leaves(self) -> None:
        """The node was told to end."""
        if (said := self._life.leaves()) is not None:
            self._tell(said)

    def fails(self, error: BaseException) -> None:
        """The node can not run, or not on."""
        if (said := self._life.fails(cut_secrets("; ".join(_causes(error))))) is not None:
            self._tell(said)

    async def _watch(self, node: Node) -> None:
        while True:
            for said in self._life.observe(_facts(node), now=time.monotonic()):
                self._tell(said)
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def reporting(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Reports]:
    """Reports of one life; an error that ends the block is reported, too. Never raises by itself.

    Its end waits for recorder.CLOSING_SECONDS at most.
    """
    server = _server(settings, environ)
    if server is None:
        yield Reports(None, lambda _: None)
        return
    # Names of events: no secret, but no two alike.
    recorder = Recorder(Ledger(rng=random.SystemRandom(), now=time.monotonic()), server.send)
    recorder.start()
    reports = Reports(server, recorder.happened)
    try:
        yield reports
    except Exception as error:
        reports.fails(error)
        raise
    finally:
        await asyncio.get_running_loop().run_in_executor(None, recorder.close)


def _server(settings: Settings, environ: Mapping[str, str]) -> "ApiServer | None":
    """The API server; None outside a cluster, or where it can not be asked."""
    if not environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    # The client is large, and of use in a cluster alone.
    from app.kubernetes.api import ApiServer, NoAccount  # noqa: PLC0415

    try:
        return ApiServer(environ, pod_of(environ, node_name=settings.node_name, host_name=socket.gethostname()))
    except (NoAccount, OSError) as error:
        log.warning("in a Kubernetes cluster without a service account: no events, and no zone but --zone: %s", error)
        return None


def _facts(node: Node) -> Facts:
    if node.gossip is None:
        return Facts(frozenset(), frozenset(), 0)
    _, *others = node.gossip.members()
    alive = frozenset(member.name for member, state in others if state is MemberState.ALIVE)
    return Facts(alive, node.gossip.statistics().exchanged_with, load_of(node.cache, node.metrics).served_peer)


def _zone(server: "ApiServer") -> str | None:
    """The zone of the pod's node; None, with a warning, where it can not be had in time. Blocks."""
    end = time.monotonic() + ZONE_SECONDS
    while True:
        try:
            zone = server.zone_of_node()
            return None if zone is None else TypeAdapter[str](ZoneName).validate_python(zone)
        except PermissionError as error:
            log.warning("no zone: Kubernetes does not tell it, and --zone is not given: %s", error)
            return None
        except ValidationError as error:
            log.warning("no zone: the label of this node is %r: %s", zone, error.errors()[0]["msg"])
            return None
        except LookupError as error:
            if time.monotonic() + ZONE_AGAIN_SECONDS > end:
                log.warning("no zone: Kubernetes can not be asked, and --zone is not given: %s", error)
                return None
            time.sleep(ZONE_AGAIN_SECONDS)


async def _aside(ask: Callable[["ApiServer"], str | None], server: "ApiServer", *, within: float) -> str | None:
    """Ask in a thread that neither the node nor the interpreter waits for any longer than `within` seconds."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str | None] = loop.create_future()

    def tell(answer: str | None) -> None:
        if not answered.done():
            answered.set_result(answer)

    def run() -> None:
        answer = ask(server)
        with suppress(RuntimeError):  # the loop has ended by now
            loop.call_soon_threadsafe(tell, answer)

    threading.Thread(target=run, name="kubernetes zone", daemon=True).start()
    try:
        async with asyncio.timeout(within):
            return await answered
    except TimeoutError:
        log.warning("no zone: Kubernetes did not answer within %.0f s, and --zone is not given", within)
        return None


def _causes(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for one in error.exceptions for cause in _causes(one)]
    return [str(error) or type(error).__name__]
