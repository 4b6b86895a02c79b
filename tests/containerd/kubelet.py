"""The call that a kubelet makes when it needs an image, on containerd's socket."""

import tempfile
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

_PULL_SECONDS_MAX = 60.0


def pull_image(socket: Path, name: str) -> str:
    """What the pulled image is called by containerd: the digest of its config. Raises grpc.RpcError."""
    pool = _messages()
    request = message_factory.GetMessageClass(pool.FindMessageTypeByName("runtime.v1.PullImageRequest"))()
    response = message_factory.GetMessageClass(pool.FindMessageTypeByName("runtime.v1.PullImageResponse"))
    request.image.image = name
    # The host name that Go's server would make of a socket's path is not one it accepts.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix://{socket}", options=options) as channel:
        call = channel.unary_unary(
            "/runtime.v1.ImageService/PullImage",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return str(call(request, timeout=_PULL_SECONDS_MAX, wait_for_ready=True).image_ref)


def _messages() -> descriptor_pool.DescriptorPool:
    """The messages of `cri.proto`."""
    source = Path(__file__).with_name("cri.proto")
    with tempfile.NamedTemporaryFile() as compiled:
        command = ["protoc", f"-I{source.parent}", f"--descriptor_set_out={compiled.name}", source.name]
        assert protoc.main(command) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool
