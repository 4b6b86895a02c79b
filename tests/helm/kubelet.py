"""What a kubelet makes of a pod of the chart, with folders in place of a node's and of volumes.

Paths are mapped and not mounted: in commands and environment, the path of a mount becomes the folder that stands for it.
Processes have no capabilities, as the chart says, and are root's, as folders of tests are.
"""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containerd.network import Host
from tests.helm.chart import Document, containers

_PATH = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 60


@dataclass(frozen=True)
class Process:
    """What a container starts as."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    security: Mapping[str, Any]

    @property
    def words(self) -> list[str]:
        """The command with its environment and no other."""
        return self.beside(*self.command)

    def beside(self, *command: str) -> list[str]:
        """Another command with the same environment, as `kubectl exec` runs one."""
        pairs = [f"{name}={value}" for name, value in self.environment.items()]
        assert self.security["capabilities"] == {"drop": ["ALL"]}
        assert self.security["allowPrivilegeEscalation"] is False
        bare = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
        return [*bare, "env", "--ignore-environment", f"PATH={_PATH}", *pairs, *command]


class Node:
    """A node of a cluster whose objects are `documents`.

    Args:
        root: stands for its file system.
        secrets: those that users of the chart make themselves, by name and key.
        config_maps: the same.
    """

    def __init__(
        self,
        name: str,
        address: str,
        root: Path,
        documents: Sequence[Document],
        *,
        secrets: Mapping[str, Mapping[str, bytes]] | None = None,
        config_maps: Mapping[str, Mapping[str, bytes]] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.root = root
        self._contents = {("secret", name): data for name, data in (secrets or {}).items()}
        self._contents |= {("configMap", name): data for name, data in (config_maps or {}).items()}
        for one in documents:
            if one["kind"] == "Secret":
                self._contents["secret", one["metadata"]["name"]] = {
                    key: base64.b64decode(value, validate=True) for key, value in one["data"].items()
                }
            if one["kind"] == "ConfigMap":
                self._contents["configMap", one["metadata"]["name"]] = {
                    key: value.encode() for key, value in one["data"].items()
                }

    def path(self, path: str) -> Path:
        """Where a file of the node is."""
        return self.root / path.lstrip("/")

    def process(self, owner: Document, container_name: str) -> Process:
        """The process of a container of a DaemonSet or Job, its volumes being there."""
        template = owner["spec"]["template"]
        (container,) = (one for one in containers(template["spec"]) if one["name"] == container_name)
        places = {mount["mountPath"]: self._volume(owner, mount["name"]) for mount in container.get("volumeMounts", [])}
        environment: dict[str, str] = {}
        for variable in container.get("env", []):
            value = variable.get("value", "")
            if "valueFrom" in variable:
                value = self._field(variable["valueFrom"]["fieldRef"]["fieldPath"])
            environment[variable["name"]] = _expanded(value, environment)
        words = [_expanded(word, environment) for word in (*container["command"], *container.get("args", []))]
        return Process(
            tuple(_mapped(word, places) for word in words),
            {name: _mapped(value, places) for name, value in environment.items()},
            container["securityContext"],
        )

    def prepare(
        self, owner: Document, host: Host | None = None
    ) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
        """Run the init containers, one after the other: the name of each, and how it ended."""
        for container in owner["spec"]["template"]["spec"].get("initContainers", []):
            words: list[str | Path] = [*self.process(owner, container["name"]).words]
            run = subprocess.run(
                host.command(*words) if host else words, check=False, capture_output=True, text=True, timeout=_SECONDS
            )
            yield container["name"], run

    def _field(self, path: str) -> str:
        known = {
            "spec.nodeName": self.name,
            "status.hostIP": self.address,
            "metadata.name": f"peerd-{self.name}",
            "metadata.uid": "0b7b1b9e-0000-4000-8000-000000000001",
            "metadata.namespace": "peerd-ns",
        }
        return known[path]

    def _volume(self, owner: Document, name: str) -> Path:
        (volume,) = (one for one in owner["spec"]["template"]["spec"]["volumes"] if one["name"] == name)
        if "hostPath" in volume:
            folder = self.path(volume["hostPath"]["path"])
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = self.root / "pods" / owner["metadata"]["name"] / name
        folder.mkdir(parents=True, exist_ok=True)
        for kind, key in (("secret", "secretName"), ("configMap", "name")):
            if source := volume.get(kind):
                content = self._contents[kind, source[key]]
                items = source.get("items") or [{"key": key, "path": key} for key in content]
                for item in items:
                    (folder / item["path"]).write_bytes(content[item["key"]])
        return folder


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` for what stands before it in the environment (Kubernetes, "Dependent Environment Variables")."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment.get(match[1], match[0]), text)


def _mapped(text: str, places: Mapping[str, Path]) -> str:
    """Paths of mounts become those of the folders that stand for them; the longest that fits counts."""
    if not places:
        return text
    longest_first = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({longest_first})(?=/|$)", lambda match: str(places[match[1]]), text)
