"""Builds the tree of one node, in the order in which it is taken down. The only module that knows every room."""

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app import __version__
from app.consent import ConsentedLibrary, ConsentedManifests, consented
from app.containerd.hosts_dir import Outcome
from app.containerd.image import ShareRule
from app.containerd.mirrors import keep_mirrors
from app.containerd.shelf import ContainerdShelf
from app.containerd.store import ContainerdStore
from app.content.cache import ChunkCache
from app.content.descriptors import KnownSizes
from app.content.flight import Flights
from app.content.in_order import InOrder
from app.content.library import Library
from app.content.manifests import Manifests
from app.content.names import NameTable
from app.content.prefetch import Prefetcher
from app.content.proof import Proofs
from app.content.reader import Reader
from app.content.resolver import Resolver
from app.content.source import Asker, Catalogue, Nobody
from app.content.tasks import Tasks
from app.content.threads import Threads
from app.observability.copies import Copies, host_of, name_of
from app.observability.metrics import Metrics
from app.observability.recent_errors import RecentErrors
from app.observability.transfers import Transfers
from app.operations.bring import Bringer
from app.operations.loads import Loads, told_load_of
from app.operations.others import Alone, OtherNode, Others
from app.operations.preheat import Preheats
from app.operations.purge import Purger, Purges
from app.routes.answers import answer_error
from app.routes.at_hand import AtHand
from app.routes.node import Node
from app.routes.plans import Plans
from app.routes.short_answer import Telling
from app.routes.shortcut import Shortcut
from app.server.certificates import Certificates
from app.server.doors import App, Door, DoorError, bind, open_door
from app.server.operations_only import operations_only
from app.settings import Settings
from app.swarm.admission import Admission
from app.swarm.advertiser import Advertiser
from app.swarm.delegate import HomeOfNames, NameDoor
from app.swarm.door import PeerDoor
from app.swarm.joining import joined
from app.swarm.knowledge import Knowledge
from app.swarm.leases import Leases
from app.swarm.members_only import MembersOnly
from app.swarm.order_door import OrderDoor
from app.swarm.orders import MembersAtTheDoor
from app.swarm.peer_client import PeerClient
from app.swarm.peers import Peers
from app.swarm.ranking import Conduct
from app.swarm.swarm import Swarm
from app.upstream import Proxies, RegistryNames, UpstreamConfig, UpstreamSource
from peerd_gossip import Gossip, key_hash

log = logging.getLogger("peerd")


@asynccontextmanager
async def running(
    settings: Settings, environ: Mapping[str, str], application: Callable[[Node], App]
) -> AsyncIterator[Node]:
    """One node, from bind to drain; `application` makes the API behind its door.

    Raises:
        DoorError: a door can not be opened.
        CacheLocked, OSError: the cache folder can not be used.
        GossipError: membership can not be had.
    """
    metrics, copies = Metrics(settings.node_name), Copies(name_of if settings.consent == "cluster" else host_of)
    recent_errors = RecentErrors()
    async with AsyncExitStack() as stack:
        stack.enter_context(recent_errors.listening())
        # Sockets first: an address in use is the mistake that is made most, and costs nothing to find.
        http = stack.enter_context(bind("--http-addr", settings.http_addr))
        ops = stack.enter_context(bind("--metrics-addr", settings.metrics_addr)) if settings.metrics_addr else None
        peer = None if settings.alone else stack.enter_context(bind("--peer-addr", settings.peer_addr))
        certificates = _certificates(settings)
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
        config = _upstream_config(settings, environ)
        upstream = await stack.enter_async_context(
            UpstreamSource.open(config, threads.upstream, on_refused=metrics.refused)
        )
        gossip = await stack.enter_async_context(joined(settings, peer.getsockname()[1])) if peer else None
        tasks = await stack.enter_async_context(Tasks())
        advertiser = Advertiser()
        shelf = ContainerdShelf(cache, advertiser.holder(), tasks=tasks)
        store = _containerd(settings, threads, shelf)
        client = _peer_client(stack, settings, certificates)
        peers = _peers(gossip, client, threads, metrics) if gossip else None
        heart = _heart(
            settings,
            cache,
            store,
            peers,
            upstream,
            client=client,
            threads=threads,
            tasks=tasks,
            metrics=metrics,
            copies=copies,
        )
        _advertise(advertiser, cache, heart.resolver, gossip)
        await stack.enter_async_context(store.running())

        registry_hosts = (registries := RegistryNames(config)).netlocs()
        purger = Purger(cache, heart.resolver, threads=threads, registry_hosts=registry_hosts)
        others: Others = Alone()
        if gossip is not None:
            others = await stack.enter_async_context(MembersAtTheDoor(gossip, client))
        preheats = Preheats(
            OtherNode(settings.node_name, settings.zone or ""),
            Bringer(
                cache,
                heart.library,
                heart.manifests,
                registry_hosts=registry_hosts,
                is_announced=_announced_in(gossip),
            ),
            others,
            tasks=await stack.enter_async_context(Tasks()),
            rng=_chance(),
        )
        library, manifests = _for_clients(settings, heart, upstream, registries, metrics)
        transfers = Transfers(sent=lambda kind, count: metrics.served[kind].inc(count))
        node = Node(
            settings=settings,
            version=__version__,
            cache=cache,
            library=library,
            manifests=manifests,
            purges=Purges(settings.node_name, purger, others),
            preheats=preheats,
            copies=copies,
            loads=Loads(others, tasks=await stack.enter_async_context(Tasks())),
            recent_errors=recent_errors,
            transfers=transfers,
            plans=Plans(heart.reader),
            metrics=metrics,
            gossip=gossip,
            certificates=certificates,
            registry_hosts=registry_hosts,
            started_at=time.time(),
            state="starting",
            doors=dict.fromkeys(("http", "metrics", "peer", "gossip")),
        )
        if gossip is not None:
            node.doors["gossip"] = gossip.me.gossip_addr
        app = application(node)
        telling = Telling(transfers, metrics, settings.node_name)
        at_hand = AtHand(node.plans, heart.reader, telling)
        peer_door = _peer_door(
            node, heart, threads, shelf, OrderDoor(purger, preheats, partial(told_load_of, cache, metrics, copies))
        )
        doors: dict[str, Door] = {}
        for name, listener, behind, tls, answerer, drain_seconds in (
            ("metrics", ops, operations_only(app), None, None, 0.0),  # first, to be the last that is closed
            ("peer", peer, peer_door, certificates, None, settings.drain_timeout),
            ("http", http, _client_door(node, app, heart.reader, telling), None, at_hand, settings.drain_timeout),
        ):
            if listener is not None:
                opening = open_door(
                    f"--{name}-addr", listener, behind, tls=tls, answerer=answerer, drain_seconds=drain_seconds
                )
                doors[name] = await stack.enter_async_context(opening)
                node.doors[name] = str(doors[name].address)
        # Last, when this node can serve: containerd reads the files at the next pull.
        await threads.disk(_keep_mirrors, settings)
        node.state = "ready"
        yield node
        node.state = "draining"
        for name in doors.keys() & {"peer", "http"}:
            doors[name].close()  # At the same time: together they have one drain timeout.


def _client_door(node: Node, app: App, reader: Reader, telling: Telling) -> App:
    """What has to be waited for, with the shortest way there that it may go."""
    return Shortcut(
        app,
        node.plans,
        reader,
        telling,
        answer_error=answer_error,
        mirror_timeout=node.settings.mirror_timeout,
    )


def _keep_mirrors(settings: Settings) -> None:
    for done in keep_mirrors(settings):
        if done.refusal is not None:
            log.warning("the mirror file of %s is left as it was: %s", done.name, done.refusal)
        elif done.outcome is not Outcome.UNCHANGED:
            log.info("the mirror file of %s: %s", done.name, done.outcome)


@dataclass(frozen=True, slots=True)
class _Heart:
    """Everything that reads, joined together."""

    flights: Flights
    reader: Reader
    resolver: Resolver
    library: Library
    manifests: Manifests
    delegate: HomeOfNames | Nobody
    leases: Leases


def _heart(
    settings: Settings,
    cache: ChunkCache,
    store: ContainerdStore,
    peers: Peers | None,
    upstream: UpstreamSource,
    *,
    client: PeerClient,
    threads: Threads,
    tasks: Tasks,
    metrics: Metrics,
    copies: Copies,
) -> _Heart:
    catalogues: list[Catalogue] = [store] if peers is None else [store, peers]
    asker: Asker = InOrder([store, upstream])
    delegate: HomeOfNames | Nobody = Nobody()
    leases = Leases()
    if peers is not None:
        asker = swarm = Swarm(
            peers, [store], upstream, leases, chunk_size=settings.chunk_size, rng=_chance(), metrics=metrics
        )
        delegate = HomeOfNames(swarm.roster, client, threads.peers)
    flights = Flights(cache, asker, tasks=tasks, tally=metrics, from_upstream=copies.came_in)
    proofs = Proofs(cache, flights, threads=threads, tasks=tasks)
    prefetcher = Prefetcher(cache, flights, asker, tasks=tasks, enabled=settings.prefetch)
    reader = Reader(cache, flights, proofs, prefetcher)
    resolver = Resolver(NameTable(cache.layout), catalogues, ttl_seconds=settings.tag_ttl)
    parts = (cache, reader, resolver, catalogues, upstream)
    sizes, through = KnownSizes(), settings.pull_through
    return _Heart(
        flights,
        reader,
        resolver,
        Library(*parts, delegate=delegate, known_sizes=sizes, pull_through=through, came_in=metrics.came_in),
        Manifests(*parts, delegate=delegate, known_sizes=sizes, pull_through=through),
        delegate,
        leases,
    )


def _for_clients(
    settings: Settings, heart: _Heart, upstream: UpstreamSource, registries: RegistryNames, metrics: Metrics
) -> tuple[Library | ConsentedLibrary, Manifests | ConsentedManifests]:
    """What clients read through: all that is here, or what upstream gives them."""
    if settings.consent == "cluster":
        return heart.library, heart.manifests
    listed, told = registries.listed(), metrics.consent
    return consented(
        heart.library, heart.manifests, upstream, listed=listed, ttl_seconds=settings.consent_ttl, told=told
    )


def _warn(settings: Settings, metrics: Metrics) -> None:
    """Say what an operator may not have meant."""
    if settings.alone:
        log.warning("neither --tls-ca, --tls-cert and --tls-key nor --insecure-peers is given: this node runs alone")
    if not settings.http_addr.is_loopback:
        log.warning("--http-addr %s is reached from other hosts: they may read what this node may", settings.http_addr)
        metrics.node_door_exposed.set(1)


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls is None:
        return None
    try:
        return Certificates(settings.tls)
    except (OSError, ValueError) as error:
        raise DoorError(f"--tls-ca, --tls-cert and --tls-key can not be used: {error}") from error


def _peer_client(stack: AsyncExitStack, settings: Settings, certificates: Certificates | None) -> PeerClient:
    client = PeerClient(settings.node_name, certificates)
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


def _peer_door(
    node: Node, heart: _Heart, threads: Threads, store: ContainerdShelf, orders: OrderDoor
) -> Callable[..., Any]:
    def zone_of(name: str) -> str | None:
        member = node.gossip.member(name) if node.gossip else None
        return member.zone if member else None

    names = []
    if isinstance(heart.delegate, HomeOfNames):
        names = NameDoor(heart.library, heart.manifests, heart.delegate).routes
    door = PeerDoor(
        node.cache,
        heart.flights,
        heart.resolver,
        admission=Admission(
            uploads_max=node.settings.max_uploads, rate_max=node.settings.upload_limit, clock=time.monotonic
        ),
        leases=heart.leases,
        threads=threads,
        metrics=node.metrics,
        zone_of=zone_of,
        zone=node.settings.zone or "",
        store=store,
        more=[*names, *orders.routes],
    )
    return MembersOnly(door, lambda name: zone_of(name) is not None)


def _containerd(settings: Settings, threads: Threads, shelf: ContainerdShelf) -> ContainerdStore:
    store = ContainerdStore(
        socket=settings.containerd_socket,
        namespace=settings.containerd_namespace,
        rule=ShareRule(frozenset(one.name for one in settings.hosts), settings.share_filter),
        content_dir=settings.containerd_content_dir,
        executor=threads.upstream,
        on_change=shelf.changed,
    )
    shelf.connect(store)
    return store


def _advertise(advertiser: Advertiser, cache: ChunkCache, resolver: Resolver, gossip: Gossip | None) -> None:
    """Tell the others what is held here, now and whenever it changes."""
    cache.listener, resolver.listener = advertiser.holder(), advertiser.holder()
    cache.listener.held(cache.advertised())
    resolver.listener.held(resolver.advertised())
    if gossip is not None:
        advertiser.connect(gossip)


def _upstream_config(settings: Settings, environ: Mapping[str, str]) -> UpstreamConfig:
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
