"""Runs benchmarks, one after the other, and keeps what they print in docs/benchmarks.md.

    python -m bench                 all of them, within twenty minutes: simulations are of 1,000 nodes at most
    python -m bench memory gossip   some, with all that they have: swarm takes some twenty minutes, gossip ten
    python -m bench --list

Each is a module of this folder that can be run by itself, `python -m bench.memory --help`; it prints its table and exits with 1
when a line misses its goal. Both sides of a ratio are measured in turn, in one run.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

LINES = {
    "memory": "peak memory of a node while a large file passes through it",
    "dataplane": "bytes out, hot and cold, beside nginx and Go's net/http",
    "consent": "what a consent of upstream costs that is remembered, beside not asking",
    "gossip": "index and replication, in simulation at 1,000 and 3,000 members",
    "node": "memory and idle processor time of a node that knows 3,000 members",
    "swarm": "the flash crowd, in simulation at 100 to 3,000 nodes",
    "containerd": "a warm pull through peerd beside one from the registry",
    "overlaybd": "a scan and random reads through /blobs, beside nginx",
    "flashcrowd": "eight real nodes that want one image at the same moment",
}
PICTURES = {
    "flashcrowd": {"images/flash-crowd.svg": "How fast bytes came to each node, straight and through peerd"},
    "swarm": {
        "images/completion-times.svg": "How long a crowd takes, by how many nodes there are",
        "images/chunk-spread.svg": "How many nodes have a chunk, second by second",
    },
}
"""What a benchmark draws, beside the page, and what it shows."""

SECONDS_MAX = 3600

OF_A_WHOLE = {
    "gossip": ("--up-to", "1000", "--without", "busy"),
    "swarm": ("--up-to", "1000"),
    "containerd": ("--size", "512"),
}
"""What is left out where all are run, for what takes longest."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def main() -> int:
    """Run what was asked for; returns 1 when any missed its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="*", choices=[*LINES, []], help="which to run (all of those that there are)")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--no-page", action="store_true", help="print only; leave docs/benchmarks.md as it is")
    arguments = parser.parse_args()
    there = [name for name in LINES if (HERE / f"{name}.py").exists()]
    if arguments.list:
        for name in there:
            print(f"{name:12} {LINES[name]}")
        return 0
    failed, sections = [], []
    for name in arguments.lines or there:
        print(f"== {name}: {LINES[name]}", flush=True)
        began = time.monotonic()
        command = [f"bench.{name}", *(() if arguments.lines else OF_A_WHOLE.get(name, ()))]
        text, code = run(command)
        print(
            f"== {name}: {'met its goals' if code == 0 else 'MISSED'} after {time.monotonic() - began:.0f} s\n",
            flush=True,
        )
        failed += [name] if code else []
        sections.append((name, " ".join(command), text))
    if not arguments.no_page:
        write_page(sections)
    return 1 if failed else 0


def run(command: list[str]) -> tuple[str, int]:
    """One benchmark's output and exit code."""
    command = [sys.executable, "-m", *command]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE.parent,
        env=environment,
        start_new_session=True,
    ) as process:
        lines = []
        deadline = time.monotonic() + SECONDS_MAX
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(_ESCAPES.sub("", line))
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGTERM)  # With the processes that it has begun.
                lines.append(f"stopped after {SECONDS_MAX} s\n")
                break
        return "".join(lines), process.wait()


def write_page(sections: list[tuple[str, str, str]]) -> None:
    """Replace the sections that were run; keep the others with their own date."""
    kept = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text() if PAGE.exists() else "", re.MULTILINE | re.DOTALL)
    )
    machine = f"{os.cpu_count()} × {processor()}, Linux {platform.release()}, Python {platform.python_version()}"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "uvloop", "urllib3", "grpcio")
    )
    for name, command, text in sections:
        when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
        kept[name] = (
            f"{LINES[name].capitalize()}. `python -m {command}`, {when}; {machine}; {versions}.\n\n"
            f"```text\n{text.strip()}\n```\n\n"
        )
        drawn = {} if name in OF_A_WHOLE and command != f"bench.{name}" else PICTURES.get(name, {})
        for path, shown in drawn.items():
            kept[name] += f"![{shown}]({path})\n\n"
    head = (
        "# Benchmarks\n\nWritten by `make bench`. Read ratios, not absolutes: the same case moves with the machine.\n\n"
    )
    PAGE.write_text(head + "".join(f"## {name}\n{kept[name]}" for name in LINES if name in kept))


def processor() -> str:
    """What the machine calls its processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
