"""The shell of somebody who reads the pages and types what they say."""

import os
import sys
from pathlib import Path

from tests.docs.markdown import ROOT


def own_namespaces() -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def reader_environ() -> dict[str, str]:
    """A reader's environment, with this interpreter's commands and modules."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PEERD_")}
    return environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
