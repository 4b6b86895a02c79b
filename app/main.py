"""Builds the tree of one node and takes it down. The only module that knows everybody."""

import asyncio
import logging
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import __version__
from app.api.routers import routers
from app.content.cache import CacheLocked, ChunkCache
from app.content.flight import Flights
from app.content.in_order import InOrder
from app.content.library import Library
from app.content.manifests import Manifests
from app.content.names import NameTable
from app.content.prefetch import Prefetcher
from app.content.proof import Proofs
from app.content.reader import Reader
from app.content.resolver import Resolver
from app.content.source import Asker
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.errors import PeerdError
from app.observability import logs
from app.observability.instrument import instrument
from app.observability.metrics import Metrics
from app.observability.request import RequestStory
from app.observability.transfers import Transfers
from app.operations.bring import Bringer
from app.operations.others import Alone, OtherNode, Others
from app.operations.preheat import Preheats
from app.operations.purge import Purger, Purges
from app.routes import answers
from app.routes.node import Node
from app.server.doors import DoorError, bind, client_context, open_door
from app.server.operations_only import operations_only
from app.settings import Address, Settings, TlsFiles
from app.swarm.admission import Admission
from app.swarm.advertiser import Advertiser
from app.swarm.door import PeerDoor
from app.swarm.knowledge import Knowledge
from app.swarm.leases import Leases
from app.swarm.order_door import OrderDoor
from app.swarm.orders import MembersAtTheDoor
from app.swarm.peer_client import PeerClient
from app.swarm.peers import Peers
from app.swarm.ranking import Conduct
from app.swarm.swarm import Swarm
from app.upstream import Proxies, RegistryNames, UpstreamConfig, UpstreamSource
from peerd_gossip import Gossip, GossipConfig, GossipError, Member, StaticMembership, key_hash
from peerd_gossip import TlsFiles as GossipTls

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
    async with running(settings, environ) as node:
        log.info("%s is ready", settings.node_name)
        await told.wait()
        log.info("%s leaves", settings.node_name)
        node.state = "draining"
        if node.gossip is not None:
            await node.gossip.leave()


@asynccontextmanager
async def running(settings: Settings, environ: dict[str, str] | None = None) -> AsyncIterator[Node]:
    """One node, from bind to drain.

    Raises:
        DoorError: a door can not be opened.
        CacheLocked, OSError: the cache folder can not be used.
        GossipError: membership can not be had.
    """
    metrics = Metrics(settings.node_name)
    async with AsyncExitStack() as stack:
        # Sockets first: an address in use is the mistake that is made most, and costs nothing to find.
        http = stack.enter_context(bind("--http-addr", settings.http_addr))
        ops = stack.enter_context(bind("--metrics-addr", settings.metrics_addr)) if settings.metrics_addr else None
        peer = None if settings.alone else stack.enter_context(bind("--peer-addr", settings.peer_addr))
        _warn(settings, metrics)

        threads = await stack.enter_async_context(Threads())
        cache = await stack.enter_async_context(
            ChunkCache.open(
                settings.cache_dir,
                quota=settings.cache_size,
                chunk_size=settings.chunk_size,
                threads=threads,
                evicted=metrics.evicted.inc,
                corrupt=metrics.corrupt.labels("cache").inc,
            )
        )
        config = _upstream_config(settings, environ or {})
        upstream = await stack.enter_async_context(
            UpstreamSource.open(config, threads.upstream, on_refused=metrics.refused)
        )
        gossip = await _gossip(stack, settings, peer.getsockname()[1]) if peer else None
        client = _peer_client(stack, settings)
        peers = [_peers(gossip, client, threads, metrics)] if gossip else []
        asker: Asker = InOrder([upstream])
        if peers:
            asker = Swarm(peers[0], [], upstream, chunk_size=settings.chunk_size, rng=_chance(), metrics=metrics)

        tasks = await stack.enter_async_context(Tasks())
        flights = Flights(cache, asker, tasks=tasks, received=metrics.came_in)
        proofs = Proofs(cache, flights, threads=threads, tasks=tasks)
        prefetcher = Prefetcher(cache, flights, asker, tasks=tasks, enabled=settings.prefetch)
        reader = Reader(cache, flights, proofs, prefetcher)
        resolver = Resolver(NameTable(cache.layout), peers, ttl_seconds=settings.tag_ttl)
        _advertise(cache, resolver, gossip)

        pull_through = settings.pull_through
        library = Library(cache, reader, resolver, peers, upstream, pull_through=pull_through)
        manifests = Manifests(cache, reader, resolver, peers, upstream, pull_through=pull_through)
        registry_hosts = RegistryNames(config).netlocs()
        purger = Purger(cache, resolver, threads=threads, registry_hosts=registry_hosts)
        others: Others = Alone()
        if gossip is not None:
            others = await stack.enter_async_context(MembersAtTheDoor(gossip, client))
        preheats = Preheats(
            OtherNode(settings.node_name, settings.zone or ""),
            Bringer(cache, library, manifests, registry_hosts=registry_hosts, is_announced=_announced_in(gossip)),
            others,
            tasks=await stack.enter_async_context(Tasks()),
            rng=_chance(),
        )
        node = Node(
            settings=settings,
            version=__version__,
            cache=cache,
            library=library,
            manifests=manifests,
            purges=Purges(settings.node_name, purger, others),
            preheats=preheats,
            transfers=Transfers(sent=lambda kind, count: metrics.served[kind].inc(count)),
            metrics=metrics,
            gossip=gossip,
            registry_hosts=registry_hosts,
            started_at=time.time(),
            state="starting",
            doors=dict.fromkeys(("http", "metrics", "peer", "gossip")),
        )
        if gossip is not None:
            node.doors["gossip"] = gossip.me.gossip_addr
        app = application(node)
        drain = settings.drain_timeout
        doors: dict[str, tuple[socket.socket | None, Callable[..., Any], TlsFiles | None, float]] = {
            "peer": (peer, _peer_door(node, flights, threads, OrderDoor(purger, preheats)), settings.tls, drain),
            "metrics": (ops, operations_only(app), None, 0),
            "http": (http, RequestStory(app, node=settings.node_name), None, drain),
        }
        for name, (listener, behind, tls, seconds) in doors.items():
            if listener is not None:
                door = open_door(f"--{name}-addr", listener, behind, tls=tls, drain_seconds=seconds)
                node.doors[name] = str((await stack.enter_async_context(door)).address)
        node.state = "ready"
        yield node
        node.state = "draining"


def _warn(settings: Settings, metrics: Metrics) -> None:
    """Say what an operator may not have meant."""
    if settings.alone:
        log.warning("neither --tls-ca, --tls-cert and --tls-key nor --insecure-peers is given: this node runs alone")
    if not settings.http_addr.is_loopback:
        log.warning("--http-addr %s is reached from other hosts: they may read what this node may", settings.http_addr)
        metrics.node_door_exposed.set(1)


async def _gossip(stack: AsyncExitStack, settings: Settings, peer_port: int) -> Gossip:
    me = Member(
        settings.node_name,
        int(time.time() * 1000),  # greater at each start: a newer life replaces the older one
        str(Address(settings.advertise_host, peer_port)),
        str(Address(settings.advertise_host, settings.gossip_addr.port)),
        settings.zone or "",
        __version__,
    )
    tls = settings.tls
    config = GossipConfig(
        me,
        str(settings.gossip_addr),
        tls=GossipTls(tls.ca, tls.cert, tls.key) if tls else None,
        fp_rate=settings.filter_fp_rate,
    )
    return await stack.enter_async_context(
        Gossip.running(config, StaticMembership([str(address) for address in settings.join_addresses]))
    )


def _peer_client(stack: AsyncExitStack, settings: Settings) -> PeerClient:
    tls = settings.tls
    client = PeerClient(settings.node_name, tls=(lambda: client_context(tls)) if tls else None)
    stack.callback(client.close)
    return client


def _chance() -> random.Random:
    """Chance that spreads load; it keeps no secret."""
    return random.Random()  # noqa: S311


def _peers(gossip: Gossip, client: PeerClient, threads: Threads, metrics: Metrics) -> Peers:
    return Peers(
        gossip,
        client,
        Conduct(time.monotonic, _chance()),
        Knowledge(_chance()),
        executor=threads.peers,
        metrics=metrics,
    )


def _announced_in(gossip: Gossip | None) -> Callable[[str], bool]:
    """Whether another live member is known to hold a key."""
    return lambda text: gossip is not None and bool(gossip.holders(key_hash(text)))


def _peer_door(node: Node, flights: Flights, threads: Threads, orders: OrderDoor) -> Callable[..., Any]:
    def zone_of(name: str) -> str | None:
        member = node.gossip.member(name) if node.gossip else None
        return member.zone if member else None

    door = PeerDoor(
        node.cache,
        flights,
        node.library.resolver,
        admission=Admission(
            uploads_max=node.settings.max_uploads, rate_max=node.settings.upload_limit, clock=time.monotonic
        ),
        leases=Leases(time.monotonic),
        threads=threads,
        metrics=node.metrics,
        zone_of=zone_of,
        zone=node.settings.zone or "",
        orders=orders.routes,
    )
    return door.app


def _advertise(cache: ChunkCache, resolver: Resolver, gossip: Gossip | None) -> None:
    """Tell the others what is held here, now and whenever it changes."""
    advertiser = Advertiser()
    cache.listener, resolver.listener = advertiser.holder(), advertiser.holder()
    cache.listener.held(cache.advertised())
    resolver.listener.held(resolver.advertised())
    if gossip is not None:
        advertiser.connect(gossip)


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


def _upstream_config(settings: Settings, environ: dict[str, str]) -> UpstreamConfig:
    return UpstreamConfig(
        registries={one.name: one.url for one in settings.registry},
        auth_file=settings.registry_auth,
        allow=settings.upstream_allow,
        deny_unlisted=settings.upstream_deny_unlisted,
        ca=settings.upstream_ca,
        hosts=tuple(str(one) for one in settings.hosts),
        default_registry=settings.default_registry,
        proxies=Proxies.from_environment(environ),
    )
