"""A node as a child of the demo: `python -m app.demo.child PARENT_PID serve …`.

It asks the kernel to be ended with its parent (prctl(2), PR_SET_PDEATHSIG), so that no node outlives a demo that is killed.
"""

import ctypes
import os
import signal
import sys

from app.cli import main

_PR_SET_PDEATHSIG = 1


def run(parent_pid: int, arguments: list[str]) -> None:
    """Run a command, and end when the parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it ended before the kernel was asked
        return
    main(arguments, prog_name="peerd")


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
