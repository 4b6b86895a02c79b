"""Ports for servers that can not be told to take a free one and say which."""

import os
import random
import socket

# Below Linux' ephemeral ports (ip_local_port_range begins at 32768), so that no client's connection takes one meanwhile.
_FIRST, _LAST = 15_000, 32_000
_chance = random.Random(os.getpid())


_given: set[int] = set()
"""Those of this process: what was given to one server is not given to the next, though the first does not listen yet."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens at."""
    for _ in range(100):
        port = _chance.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise RuntimeError(f"no free port at {host}")


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
