"""The mirror files that a node's options ask for: written by `serve` at its start and by `peerd hosts install`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from app.containerd.config_toml import first_mirror_folder
from app.containerd.hosts_dir import HostsDir, HostsDirRefused, Outcome
from app.containerd.hosts_toml import door_url
from app.containerd.registry_name import RegistryName
from app.settings.values import Address, MirroredRegistry, RegistryLocation


class MirrorOptions(Protocol):
    """Of a node's settings, those that say which mirror files there should be."""

    @property
    def hosts(self) -> tuple[MirroredRegistry, ...]:
        """`--hosts`."""

    @property
    def hosts_dir(self) -> Path | None:
        """`--hosts-dir`."""

    @property
    def containerd_config(self) -> Path:
        """`--containerd-config`."""

    @property
    def http_addr(self) -> Address:
        """`--http-addr`."""

    @property
    def registry(self) -> tuple[RegistryLocation, ...]:
        """`--registry`."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one registry.

    Attributes:
        name: the registry's, or its folder's.
        outcome: None when it was refused.
        refusal: why, then.
    """

    name: str
    outcome: Outcome | None
    refusal: str | None = None


def mirror_folder(options: MirrorOptions) -> HostsDir:
    """`--hosts-dir`, or where containerd looks."""
    return HostsDir(options.hosts_dir or first_mirror_folder(options.containerd_config))


def mirror_url(options: MirrorOptions) -> str:
    """Where containerd reaches this node's door."""
    return door_url(options.http_addr.host, options.http_addr.port)


def install_mirrors(options: MirrorOptions) -> list[Done]:
    """Make this node the first host of every registry of `--hosts`; one that is refused keeps back no other. Blocks."""
    folder, url = mirror_folder(options), mirror_url(options)

    def install(mirrored: MirroredRegistry) -> Outcome:
        return folder.install(RegistryName.parse(mirrored.name), url, server=_server(mirrored, options.registry))

    return [_done(mirrored.name, partial(install, mirrored)) for mirrored in options.hosts]


def keep_mirrors(options: MirrorOptions) -> list[Done]:
    """The same, and put back what peerd wrote earlier for registries that `--hosts` names no more. Blocks.

    A node with `--hosts` answers for these alone, so a file that was left for another would only cost each pull a request. One
    without is told of its registries by `peerd hosts`, and leaves all files alone.
    """
    if not options.hosts:
        return []
    folder, done = mirror_folder(options), install_mirrors(options)
    named = {name for mirrored in options.hosts for name in RegistryName.parse(mirrored.name).folders}
    try:
        left = [name for name in folder.ours() if name not in named]
    except HostsDirRefused as error:
        return [*done, Done("others", None, str(error))]
    return [*done, *(_done(name, partial(folder.restore_folder, name)) for name in left)]


def restore_mirrors(options: MirrorOptions) -> list[Done]:
    """Put back the files of `--hosts`, or all of them where it names none. Blocks. Raises HostsDirRefused."""
    folder = mirror_folder(options)
    if options.hosts:
        names = [mirrored.name for mirrored in options.hosts]
        return [_done(name, partial(folder.restore, RegistryName.parse(name))) for name in names]
    return [_done(name, partial(folder.restore_folder, name)) for name in folder.ours()]


def _done(name: str, act: Callable[[], Outcome]) -> Done:
    try:
        return Done(name, act())
    except HostsDirRefused as error:
        return Done(name, None, str(error))


def _server(mirrored: MirroredRegistry, registries: tuple[RegistryLocation, ...]) -> str | None:
    """The registry itself, where the options say that it is not at the usual place."""
    for location in registries:
        if location.name == mirrored.name:
            return location.url
    return f"http://{mirrored.name}" if mirrored.scheme == "http" else None
