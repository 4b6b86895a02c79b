"""Connections to the gossip doors of other members, kept while they are of use, and opened anew with new certificates."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

import grpc
import grpc.aio

from peerd_gossip.tls import TlsFiles, client_credentials, tls_name

AGE_S_MAX = 600.0
"""So that new certificates are taken up."""

CHANNELS_MAX = 1024

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # credentials are this channel's own
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class Channels:
    """One for each address, and for the name that is expected there."""

    def __init__(self, tls: TlsFiles | None, options: Sequence[tuple[str, int]]) -> None:
        self._tls = tls
        self._options = [*options, *_OPTIONS]
        self._kept: OrderedDict[tuple[str, str | None], tuple[grpc.aio.Channel, float]] = OrderedDict()
        self._retired: list[grpc.aio.Channel] = []

    def to(self, address: str, name: str | None) -> grpc.aio.Channel:
        """The channel to a door; `name` None: whoever of the cluster answers there.

        Raises GossipUnavailable while our own certificates can not be read.
        """
        kept = self._kept.get((address, name))
        if kept is not None:
            self._kept.move_to_end((address, name))
            return kept[0]
        if self._tls is None:
            channel = grpc.aio.insecure_channel(address, options=self._options)
        else:
            meant = [("grpc.ssl_target_name_override", tls_name(name))] if name is not None else []
            channel = grpc.aio.secure_channel(address, client_credentials(self._tls), options=[*self._options, *meant])
        self._kept[(address, name)] = (channel, time.monotonic())
        if len(self._kept) > CHANNELS_MAX:
            self._retired.append(self._kept.popitem(last=False)[1][0])
        return channel

    def failed(self, address: str, name: str | None, error: Exception) -> bool:
        """A call has failed; tells whether the channel was given up, because nobody answers at that door.

        gRPC would try to reach it by itself for as long as the channel is open, a thousand channels every second.
        """
        if not isinstance(error, grpc.aio.AioRpcError) or error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        kept = self._kept.pop((address, name), None)
        if kept is not None:
            self._retired.append(kept[0])
        return kept is not None

    async def sweep(self) -> None:
        """Close those that were given up, and those with certificates of long ago."""
        now = time.monotonic()
        for key, (channel, opened) in list(self._kept.items()):
            if now - opened > AGE_S_MAX:
                del self._kept[key]
                self._retired.append(channel)
        while self._retired:
            await self._retired.pop().close()

    async def close(self) -> None:
        """Close all."""
        self._retired += [channel for channel, _ in self._kept.values()]
        self._kept.clear()
        await self.sweep()
