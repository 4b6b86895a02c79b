"""What containerd's own `config.toml` says of mirror files. Read, never written.

The CRI plugin, which pulls for the kubelet, has moved; its settings stand under the name of its time:

    version 1                   plugins.cri                                   containerd 1.x
    version 2                   plugins."io.containerd.grpc.v1.cri"           containerd 1.x, and 2.x reads it too
    version 3                   plugins."io.containerd.cri.v1.images"         containerd 2.x

`imports` are read after the file that names them and replace a plugin's section as a whole, not key by key
(`cmd/containerd/server/config`, `LoadConfig` and `mergeConfig`; tested against `containerd config dump`).
"""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import PeerdError

_PLUGINS = ("io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri")
# containerd itself only refuses to read a file twice.
_FILES_MAX = 100


USUAL_MIRROR_FOLDER = Path("/etc/containerd/certs.d")
"""As containerd's documentation and every installer have it."""


class ConfigUnreadable(PeerdError):
    """The file, or one that it imports, is missing, can not be read, or is no TOML; containerd could not start with it."""


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """What matters for mirrors.

    Attributes:
        version: of the file's format.
        config_path: the folders of mirror files; empty when containerd looks for none.
        mirrors: registries whose mirrors are configured in the deprecated way, in `config.toml` itself.
        tls: registries whose certificates are (`registry.configs.….tls`).
    """

    version: int = 1
    config_path: tuple[Path, ...] = ()
    mirrors: tuple[str, ...] = ()
    tls: tuple[str, ...] = ()


def read_config(path: Path) -> ContainerdConfig:
    """The file with all that it imports. Raises ConfigUnreadable."""
    plugins: dict[str, Any] = {}
    version = 1
    for number, document in enumerate(_documents(path)):
        if number == 0:
            version = document.get("version", 1)
        plugins.update(_table(document, "plugins"))
    registry = next((_table(plugins[name], "registry") for name in _PLUGINS if isinstance(plugins.get(name), dict)), {})
    text = registry.get("config_path", "")
    configs = _table(registry, "configs")
    return ContainerdConfig(
        version=version if isinstance(version, int) else 1,
        config_path=tuple(Path(part) for part in text.split(":") if part) if isinstance(text, str) else (),
        mirrors=tuple(_table(registry, "mirrors")),
        tls=tuple(name for name in configs if _table(_table(configs, name), "tls")),
    )


def first_mirror_folder(path: Path) -> Path:
    """Where mirror files belong: the first folder of `config_path`, or the usual one where the file does not say."""
    try:
        folders = read_config(path).config_path
    except ConfigUnreadable:
        folders = ()
    return folders[0] if folders else USUAL_MIRROR_FOLDER


def plugin_section(version: int) -> str:
    """The header under which `config_path` stands in a file of this version."""
    if version >= 3:
        return '[plugins."io.containerd.cri.v1.images".registry]'
    return '[plugins."io.containerd.grpc.v1.cri".registry]' if version == 2 else "[plugins.cri.registry]"


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    """The file and what it imports, in the order in which later ones replace earlier ones."""
    waiting, seen = [path.absolute()], set[Path]()
    while waiting:
        file = waiting.pop(0)
        if file in seen:
            continue
        seen.add(file)
        if len(seen) > _FILES_MAX:
            raise ConfigUnreadable(f"{path} imports more than {_FILES_MAX} files")
        document = _load(file)
        yield document
        imports = document.get("imports", [])
        for pattern in imports if isinstance(imports, list) else []:
            waiting += _imported(file, str(pattern))


def _imported(file: Path, pattern: str) -> list[Path]:
    """Relative to the file that names them; only a pattern may match nothing.

    containerd 1.x takes a relative pattern (not a relative path) from the folder that it was started in, which nobody
    knows afterwards; nobody writes such patterns.
    """
    if "*" in pattern:
        absolute = (file.parent / pattern).absolute()
        return sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))
    return [Path(os.path.normpath(file.parent.absolute() / pattern))]


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigUnreadable(f"{file} can not be read: {error}") from error


def _table(table: Any, key: str) -> dict[str, Any]:
    found = table.get(key) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}
