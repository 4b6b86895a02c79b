"""What a process holds, by the kernel's own account."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def open_files(pid: int) -> list[str]:
    """What each descriptor of a process stands for: a path, or something like `socket:[1234]`."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
            found.append(str(link.readlink()))
    return sorted(found)


def kinds(files: Iterable[str]) -> Counter[str]:
    """How many there are of each kind."""
    return Counter("file" if file.startswith("/") else file.partition(":")[0] for file in files)


def threads(pid: int) -> int:
    """How many threads it has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def resident_bytes(pid: int) -> int:
    """How much memory it has."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10
