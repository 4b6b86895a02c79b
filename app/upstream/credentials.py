"""Credentials for registries, from a Docker `config.json`.

Owns: that file's format (docker/cli, `cli/config/configfile`) and which of its entries a repository may use. It is read
anew whenever a registry asks, which is seldom, so that a rotated secret counts without a restart.
"""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_log = logging.getLogger(__name__)

# The names under which Docker Hub is logged in to; `docker login` writes the first.
_DOCKER_HUB = frozenset({"index.docker.io", "docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_CONFIG_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """A name and password, or an identity token that a token server takes instead. Never in `repr`."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)

    @property
    def basic(self) -> str:
        """A value of `Authorization` (RFC 7617)."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()

    @classmethod
    def from_basic(cls, authorization: str | None) -> Self | None:
        """The name and password in a value of `Authorization`; None when it is of another scheme or can not be read."""
        scheme, _, encoded = (authorization or "").partition(" ")
        pair = _decoded_pair(encoded.strip()) if scheme.lower() == "basic" else None
        return cls(*pair) if pair else None


class CredentialFile:
    """A Docker `config.json`, or none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def check(self) -> None:
        """Read it once; raises ValueError that says what is wrong. Blocks on the disk."""
        if self._path is None:
            return
        config = _read(self._path)
        if config.get("credHelpers") or config.get("credsStore"):
            _log.warning("%s names credential helpers, which are not run; only its auths are used", self._path)

    def find(self, registry: str, repository: str) -> Credential | None:
        """The credential for `registry`/`repository`: the most specific entry, as containers-auth.json(5) has it.

        Blocks on the disk. A file that can not be read now is a warning: what is public can still be pulled.
        """
        if self._path is None:
            return None
        try:
            entries = {_normal(key): value for key, value in _read(self._path).get("auths", {}).items()}
        except (ValueError, AttributeError) as error:
            _log.warning("registry credentials are not used for now: %s", error)
            return None
        for name in _candidates(_normal(registry), repository):
            entry = entries.get(name)
            if isinstance(entry, dict) and (credential := _credential(entry)):
                return credential
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_CONFIG_BYTES_MAX))
    except OSError as error:
        raise ValueError(f"{path} can not be read: {error.strerror}") from error
    except ValueError:
        # Not the decoder's own message: it may quote the file.
        raise ValueError(f"{path} is not a Docker config.json: it is no JSON") from None
    if not isinstance(config, dict) or not isinstance(config.get("auths", {}), dict):
        raise ValueError(f'{path} is not a Docker config.json: "auths" is not an object')  # noqa: TRY004 -- the file is wrong, not an argument
    return config


def _normal(key: str) -> str:
    """`https://index.docker.io/v1/`, `ghcr.io`, `http://host:5000/v2/` and `quay.io/team` as `host[:port][/path]`."""
    host, _, path = key.partition("://")[2].partition("/") if "://" in key else key.partition("/")
    path = path.strip("/")
    if path in ("v1", "v2"):
        path = ""
    host = "docker.io" if host.lower() in _DOCKER_HUB else host.lower()
    return f"{host}/{path}" if path else host


def _candidates(registry: str, repository: str) -> Iterator[str]:
    """`registry/a/b`, `registry/a`, `registry`."""
    parts = repository.split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join((registry, *parts[:length]))
    yield registry


def _credential(entry: Mapping[str, Any]) -> Credential | None:
    """One entry of `auths`: `auth` is the base64 of name and password; or both stand in the clear."""
    username, password = entry.get("username"), entry.get("password")
    encoded, identity_token = entry.get("auth"), entry.get("identitytoken")
    if isinstance(encoded, str) and encoded:
        username, password = _decoded_pair(encoded) or (username, password)
    if isinstance(identity_token, str) and identity_token:
        return Credential(str(username or ""), "", identity_token)
    if isinstance(username, str) and isinstance(password, str) and username:
        return Credential(username, password)
    return None


def _decoded_pair(encoded: str) -> tuple[str, str] | None:
    try:
        username, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    # docker/cli strips NUL, with which old versions padded the password.
    return (username, password.strip("\0")) if colon else None
