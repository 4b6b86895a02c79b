"""A real containerd with root, state and socket of its own."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

START_SECONDS_MAX = 20.0


class Containerd:
    """Started and ended by pid. Its folders lie under a short path: a socket's may have 107 bytes."""

    namespace = "k8s.io"

    def __init__(self) -> None:
        for program in ("containerd", "ctr"):
            if shutil.which(program) is None:
                pytest.fail(f"{program} is not installed: apt-get install containerd runc")
        self.folder = Path(tempfile.mkdtemp(prefix="peerd-ctd-"))
        self.socket = self.folder / "sock"
        self.content_dir = self.folder / "root" / "io.containerd.content.v1.content"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "config.toml").write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.socket}"\n'
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", self.folder / "config.toml"], stdout=log, stderr=log
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
        # What a pull has mounted keeps its folder busy.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if line.split()[1].startswith(str(self.folder)):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)

    def ctr(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        run = subprocess.run(
            ["ctr", "-a", self.socket, "-n", self.namespace, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and run.returncode != 0:
            pytest.fail(
                f"ctr {' '.join(map(str, arguments))}: {run.stderr}\ncontainerd:\n{self._log.read_text()[-3000:]}"
            )
        return run

    def import_image(self, archive: Path) -> None:
        self.ctr("images", "import", "--no-unpack", archive)
