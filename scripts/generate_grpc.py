#!/usr/bin/env python3
"""Write the Python of the `.proto` files again, beside them.

`--check` writes nothing, names what differs and exits 1.
"""

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("peerd_gossip/_pb", "app/containerd/_pb")


def main() -> int:
    """Compile into a temporary folder; then compare with, or copy to, the folders of the sources."""
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print(__doc__, file=sys.stderr)
        return 2
    sources = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).glob("*.proto"))
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        # Google's own messages (empty, timestamp) come with the compiler.
        known = Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={known}",
                f"--python_out={output}",
                f"--pyi_out={output}",
                *sources,
            ]
        ):
            return 1
        made = {path.relative_to(output): path.read_bytes() for path in output.rglob("*_pb2.py*")}
    there = {path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).glob("*_pb2*.py*")}
    stale = sorted(there - set(made))
    differing = sorted(path for path, data in made.items() if path not in there or (ROOT / path).read_bytes() != data)
    if check:
        for path in (*differing, *stale):
            print(f"{path} is not what its .proto file says; run: make generate", file=sys.stderr)
        return bool(differing or stale)
    for path in differing:
        (ROOT / path).write_bytes(made[path])
    for path in stale:
        (ROOT / path).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
