"""Images come and go: a burst of events becomes one look.

A pull of one image publishes a handful of events within milliseconds, a node that starts its pods hundreds. Serf's
coalescer (`serf/coalesce.go`) has the same two limits: a quiet time, so that a burst is over before anything is done, and a
maximum, so that a steady trickle does not put it off for ever.
"""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Coalescer:
    """Wakes one waiter for any number of touches.

    Attributes:
        quiet_seconds: a burst is over when nothing came for so long.
        max_seconds: how long after its first touch a burst that does not end is acted on.
    """

    quiet_seconds: float
    max_seconds: float
    _touched: asyncio.Event = field(default_factory=asyncio.Event)

    def touch(self) -> None:
        """Something happened."""
        self._touched.set()

    async def burst(self, *, timeout_seconds: float) -> bool:
        """Wait for the end of a burst; False when none began within `timeout_seconds`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._touched.wait()
        except TimeoutError:
            return False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.max_seconds
        while self._touched.is_set():
            self._touched.clear()
            try:
                async with asyncio.timeout_at(min(loop.time() + self.quiet_seconds, deadline)):
                    await self._touched.wait()
            except TimeoutError:
                break
            if loop.time() >= deadline:
                # What came last belongs to the burst that is reported now.
                self._touched.clear()
        return True
