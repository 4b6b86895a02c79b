"""Simulations on virtual time, as many at a time as there are processors: what else the machine does changes none of their figures."""

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """Where they run; those that were not begun when the block ends are not run."""
    pool = ProcessPoolExecutor(os.cpu_count(), initializer=_seldom_look_for_garbage)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _seldom_look_for_garbage() -> None:
    """Garbage of a simulation is little, and looking for it among millions of objects takes a third of the time."""
    gc.set_threshold(200_000, 20, 100)
