"""A registry as `--hosts` names it, and where containerd looks for its mirror file.

containerd's own rules (`remotes/docker/config/hosts.go` and `config_unix.go`, `hostDirectory` and `hostPaths`; the same in
1.6 and 2.x): of `<host>_<port>_`, `<host>:<port>` and `_default`, the first folder that exists is read, and no other.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from app.errors import PeerdError

DEFAULT = "_default"
"""The name that stands for every registry that has no folder of its own."""

_NAME = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_SERVER = "https://registry-1.docker.io"


class BadRegistryName(PeerdError):
    """A name in `--hosts` that can not be a registry's."""


@dataclass(frozen=True, slots=True)
class RegistryName:
    """`host`, `host:port`, `[IPv6]:port` or `_default`. Safe to be used as the name of a folder."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The registry that `text` names.

        A URL without a path names its host, since Azure/peerd's `--hosts` takes those. Raises BadRegistryName.
        """
        name = re.sub(r"^https?://", "", text).removesuffix("/")
        if name == DEFAULT:
            return cls(name)
        match = _NAME.fullmatch(name)
        if match is None or not _is_host(match["host"]) or int(match["port"] or 0) > 65535:
            raise BadRegistryName(
                f"{text!r} names no registry: what is meant is a host with or without a port, as in docker.io, "
                f"registry.example:5000 or [::1]:5000, or {DEFAULT} for all"
            )
        return cls(name)

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of folders in the order in which containerd looks for them, `_default` left out."""
        colon = self.text.rfind(":")
        if colon <= 0:
            return (self.text,)
        # containerd takes the last colon for the port's, even of an IPv6 address that has none.
        return (f"{self.text[:colon]}_{self.text[colon + 1 :]}_", self.text)

    @property
    def new_folder(self) -> str:
        """Which of them to make when there is none."""
        return self.text if self.text.endswith("]") else self.folders[0]

    @property
    def server(self) -> str | None:
        """The registry itself, as containerd would find it; None where that is better left to containerd.

        `_default` stands for many, and one server would send them all to one host. For a registry on this machine containerd
        chooses between https and http by rules that differ among its versions.
        """
        if self.text == DEFAULT or self._is_local:
            return None
        return _DOCKER_HUB_SERVER if self.text == _DOCKER_HUB else f"https://{self.text}"

    @property
    def _is_local(self) -> bool:
        match = _NAME.fullmatch(self.text)
        host = match["host"].strip("[]") if match else self.text
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def __str__(self) -> str:
        return self.text


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return ".." not in host
    try:
        ipaddress.IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True
