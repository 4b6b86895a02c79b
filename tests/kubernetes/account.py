"""What the kubelet gives to a pod: a service account's files, and where the API server is."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from app.cli.authority import issue, new_authority


@dataclass(frozen=True)
class Account:
    """A service account's folder, for one pod."""

    folder: Path
    environ: dict[str, str]

    @classmethod
    def at(cls, folder: Path, address: tuple[str, int], *, token: str, ca: bytes, namespace: str) -> "Account":
        """Write its files."""
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(token)
        (folder / "ca.crt").write_bytes(ca)
        (folder / "namespace").write_text(namespace)
        host, port = address
        return cls(folder, {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)})

    def around(self, pod: str, **more: str) -> list[str]:
        """The words before a command that make it run as in that pod: its environment, and its own view of /run.

        In a mount namespace of its own, as the files' place is not an option: /var/run is a link to /run.
        """
        script = (
            "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && "
            'ln -s "$1" /run/secrets/kubernetes.io/serviceaccount && shift && exec "$@"'
        )
        variables = {**self.environ, "POD_NAME": pod, **more}
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(self.folder)),
            *("env", *(f"{name}={value}" for name, value in variables.items())),
        ]


def server_certificate(folder: Path) -> tuple[Path, Path, bytes]:
    """Files of certificate and key for 127.0.0.1, and the CA in PEM."""
    now = dt.datetime.now(dt.UTC)
    authority = new_authority(days=1, now=now)
    authority.write(folder / "ca.crt", folder / "ca.key")
    certificate, key = folder / "server.crt", folder / "server.key"
    issue(authority, "kubernetes", [ipaddress.ip_address("127.0.0.1")], days=1, now=now).write(certificate, key)
    return certificate, key, (folder / "ca.crt").read_bytes()
