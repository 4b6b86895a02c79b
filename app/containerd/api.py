"""containerd's gRPC API on its socket, as far as peerd speaks it.

Owns: paths, metadata and time-outs of the calls, and what their errors mean. Nothing here outlives one connection: when
containerd restarts, the calls of this object fail with `ContainerdUnavailable` and another one is made.

The generated client classes of grpcio-tools insist on the very version of grpcio that they were made with; the calls are
few, so they are made from the compiled service descriptors instead.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty

from app.containerd._pb import content_pb2, events_pb2, images_pb2, version_pb2
from app.containerd.image import Image
from app.content.descriptors import BlobDescriptor
from app.content.digest import Digest
from app.errors import BadRequest, PeerdError

# containerd's own limit for one message (`grpc.max_send_message_size`, 16 MiB); gRPC's of 4 MiB is too little for the
# list of images on a large node.
_MESSAGE_SIZE_BYTES_MAX = 16 << 20
# Calls that are answered from containerd's database. Not for bytes and events, which take as long as they take.
_CALL_TIMEOUT_SECONDS = 10.0

# The filter language: https://github.com/containerd/containerd/blob/main/pkg/filters/filter.go
_EVENT_FILTERS = ('topic~="^/images/"', 'topic=="/content/delete"')


class ContainerdUnavailable(PeerdError):
    """The socket is absent, containerd is restarting, or it does not answer in time."""


class BlobAbsent(PeerdError):
    """containerd does not have this blob, or not any more."""


class ContainerdApi:
    """One connection to one containerd, in one of its namespaces.

    Args:
        socket: containerd's `grpc.address`.
        namespace: whose images are meant; `k8s.io` is the kubelet's.
    """

    def __init__(self, socket: Path, namespace: str) -> None:
        self._socket = socket
        self._metadata = (("containerd-namespace", namespace),)
        self._namespace = namespace
        self._channel: Any = grpc.aio.insecure_channel(
            f"unix://{socket.absolute()}",
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_SIZE_BYTES_MAX),
                # gRPC shares connections among channels of one address; a restarted containerd must get a new one.
                ("grpc.use_local_subchannel_pool", 1),
                # The host name that Go's server would make of a socket's path is not one it accepts.
                ("grpc.default_authority", "localhost"),
            ],
        )
        self._version = self._unary(version_pb2, "Version", "Version", version_pb2.VersionResponse)
        self._images = self._unary(images_pb2, "Images", "List", images_pb2.ListImagesResponse)
        self._contents = self._stream(content_pb2, "Content", "List", content_pb2.ListContentResponse)
        self._read = self._stream(content_pb2, "Content", "Read", content_pb2.ReadContentResponse)
        self._subscribe = self._stream(events_pb2, "Events", "Subscribe", events_pb2.Envelope)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def version(self) -> str:
        """The version, e.g. `1.6.20~ds1`. Raises ContainerdUnavailable."""
        try:
            answer = await self._version(Empty(), timeout=_CALL_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._unavailable(error) from error
        version: str = answer.version
        return version

    async def images(self) -> list[Image]:
        """All images of the namespace; those whose digest is of an unknown kind are left out. Raises ContainerdUnavailable."""
        try:
            answer = await self._images(
                images_pb2.ListImagesRequest(), timeout=_CALL_TIMEOUT_SECONDS, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise self._unavailable(error) from error
        images = []
        for image in answer.images:
            digest = _digest(image.target.digest)
            if digest is not None:
                target = BlobDescriptor(image.target.media_type, digest, image.target.size)
                images.append(Image(image.name, target))
        return images

    async def blobs(self) -> dict[Digest, int]:
        """Every blob that the namespace holds whole, with its size in bytes. Raises ContainerdUnavailable."""
        held: dict[Digest, int] = {}
        request = content_pb2.ListContentRequest()
        try:
            async for answer in self._contents(request, timeout=_CALL_TIMEOUT_SECONDS, metadata=self._metadata):
                for info in answer.info:
                    digest = _digest(info.digest)
                    if digest is not None:
                        held[digest] = info.size
        except grpc.aio.AioRpcError as error:
            raise self._unavailable(error) from error
        return held

    async def read(self, digest: Digest, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """`size` bytes of a blob from `offset` on, in pieces as containerd sends them (1 MiB); `size` is at least 1.

        Closing the iterator ends the call.

        Raises:
            BlobAbsent: containerd does not have it.
            ContainerdUnavailable: it went away before the last byte.
        """
        request = content_pb2.ReadContentRequest(digest=str(digest), offset=offset, size=size)
        call = self._read(request, metadata=self._metadata)
        try:
            async for answer in call:
                yield answer.data
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE):
                raise BlobAbsent(f"containerd has no {digest} in namespace {self._namespace}") from error
            raise self._unavailable(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC says so when somebody closes the channel under a call; nobody cancelled this task.
            raise ContainerdUnavailable(f"containerd at {self._socket}: connection closed") from None
        finally:
            call.cancel()

    def events(self) -> AsyncGenerator[str, None]:
        """Topics of what happens to images and content of the namespace, from now on and without end.

        The subscription is under way when this returns. containerd does not say when it stands, so a look that is taken
        at once may miss what happens meanwhile. The iterator raises ContainerdUnavailable when the connection ends.
        """
        call = self._subscribe(events_pb2.SubscribeRequest(filters=_EVENT_FILTERS), metadata=self._metadata)
        return self._topics(call)

    async def _topics(self, call: Any) -> AsyncGenerator[str, None]:
        try:
            async for envelope in call:
                if envelope.namespace == self._namespace:
                    yield envelope.topic
        except grpc.aio.AioRpcError as error:
            raise self._unavailable(error) from error
        finally:
            call.cancel()
        raise ContainerdUnavailable(f"containerd at {self._socket} ended the stream of events")

    def _unavailable(self, error: grpc.aio.AioRpcError) -> ContainerdUnavailable:
        # gRPC tells the way to its last error, address by address; that error is what helps.
        why = (error.details() or "").rpartition("error: ")[2]
        return ContainerdUnavailable(f"containerd at {self._socket}: {error.code().name}: {why}")

    def _unary(self, file: Any, service: str, method: str, answer: Any) -> Any:
        return self._channel.unary_unary(
            _path(file.DESCRIPTOR.services_by_name[service], method),
            request_serializer=_serialize,
            response_deserializer=answer.FromString,
        )

    def _stream(self, file: Any, service: str, method: str, answer: Any) -> Any:
        return self._channel.unary_stream(
            _path(file.DESCRIPTOR.services_by_name[service], method),
            request_serializer=_serialize,
            response_deserializer=answer.FromString,
        )


def _path(service: ServiceDescriptor, method: str) -> str:
    return f"/{service.full_name}/{service.methods_by_name[method].name}"


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _digest(text: str) -> Digest | None:
    """The digest, or None for an algorithm that nothing here can check."""
    try:
        return Digest.parse(text)
    except BadRequest:
        return None
