"""What a node holds of what can leak."""

from tests.containerd.processes import kinds, open_files, resident_bytes, threads
from tests.support.nodes import Node


def held(node: Node) -> dict[str, int]:
    """What it holds of what can leak."""
    pid = node.program.pid
    files = kinds(open_files(pid))
    return {
        "files": files.total() - files["socket"],
        "sockets": files["socket"],
        "threads": threads(pid),
        "tasks": int(node.metric("peerd_tasks")),
        "MiB": resident_bytes(pid) >> 20,
    }


def at_rest(node: Node) -> dict[str, int]:
    """The same, when nothing is under way any more."""
    seen = [held(node)]

    def unchanged() -> bool:
        seen.append(held(node))
        return len(seen) > 10 and seen[-10:] == seen[-1:] * 10

    node.program.wait_until(unchanged, "at rest")
    return seen[-1]
