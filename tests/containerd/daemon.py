"""A real containerd with root, state and socket of its own."""

import contextlib
import hashlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.containerd.network import Host

START_SECONDS_MAX = 20.0
CALL_SECONDS_MAX = 120.0

_CRI = """\
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{hosts_dir}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
"""


class Containerd:
    """Started and ended by pid. Its folders lie under a short path: a socket's may have 107 bytes.

    Args:
        host: where it runs, and its clients too; None for the test's own.
        hosts_dir: where it looks for mirrors on behalf of a kubelet; None to leave out what kubelets talk to.
    """

    namespace = "k8s.io"

    def __init__(self, host: Host | None = None, hosts_dir: Path | None = None) -> None:
        for program in ("containerd", "ctr"):
            if shutil.which(program) is None:
                pytest.fail(f"{program} is not installed: apt-get install containerd runc")
        self.folder = Path(tempfile.mkdtemp(prefix="peerd-ctd-"))
        self.socket = self.folder / "sock"
        self.content_dir = self.folder / "root" / "io.containerd.content.v1.content"
        self.config = self.folder / "config.toml"
        self._host = host
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        disabled = "[]" if hosts_dir else '["io.containerd.grpc.v1.cri"]'
        self.config.write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\ndisabled_plugins = {disabled}\n'
            f'[grpc]\naddress = "{self.socket}"\n' + (_CRI.format(hosts_dir=hosts_dir) if hosts_dir else "")
        )

    def start(self) -> None:
        # What it mounts is gone with it and its containers.
        command = self._on_host("unshare", "--mount", "--", "containerd", "--config", self.config)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while subprocess.run(["ctr", "-a", self.socket, "version"], check=False, capture_output=True).returncode != 0:
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"containerd did not start; its log says:\n{self._log.read_text()}")
            time.sleep(0.05)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)

    def ctr(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One call of containerd's client, which also does the pulling."""
        run = subprocess.run(
            self._ctr(arguments), check=False, capture_output=True, text=True, timeout=CALL_SECONDS_MAX
        )
        if check and run.returncode != 0:
            pytest.fail(f"ctr {' '.join(map(str, arguments))}: {run.stderr}\ncontainerd:\n{self.tail()}")
        return run

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        """The same, and not waited for."""
        return subprocess.Popen(
            self._ctr(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )

    def import_image(self, archive: Path) -> None:
        self.ctr("images", "import", "--no-unpack", archive)

    def remove_images(self) -> None:
        """All of them, and what only they hold."""
        names = self.ctr("images", "ls", "-q").stdout.split()
        if names:
            self.ctr("images", "rm", "--sync", *names)

    def blobs(self) -> set[str]:
        """Digests of what it holds whole, as it says."""
        return set(self.ctr("content", "ls", "-q").stdout.split())

    def blob_file(self, digest: object) -> Path:
        algorithm, _, hexadecimal = str(digest).partition(":")
        return self.content_dir / "blobs" / algorithm / hexadecimal

    def rotten_blobs(self) -> list[str]:
        """Those of its files whose bytes are not what their name says."""
        files = (self.content_dir / "blobs/sha256").iterdir()
        return [file.name for file in files if hashlib.sha256(file.read_bytes()).hexdigest() != file.name]

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]

    def _ctr(self, arguments: tuple[object, ...]) -> list[str | Path]:
        return self._on_host("ctr", "-a", self.socket, "-n", self.namespace, *map(str, arguments))

    def _on_host(self, *command: str | Path) -> list[str | Path]:
        return self._host.command(*command) if self._host else list(command)
