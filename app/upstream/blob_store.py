"""Files behind URLs: blob stores, and anything that speaks HTTP.

Owns: in whose name a URL is asked for. The URL is the client's, byte for byte; its credential goes to the URL's own origin
and nowhere else; this node has none of its own to show there.
"""

from app.content.location import FileAtUrl
from app.upstream.exchange import Answer, Hop, Send, ask
from app.upstream.guard import Guard
from app.upstream.patience import Waiting
from app.upstream.url import UpstreamUrl


class BlobStore:
    """All URLs that are no registry's."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def url(self, location: FileAtUrl) -> UpstreamUrl:
        """Where a file is asked for. Memory only; raises UpstreamForbidden or BadRequest."""
        return self._guard.url(location.url)

    async def ask_for_file(self, location: FileAtUrl, send: Send, waiting: Waiting) -> tuple[Hop, Answer]:
        """Ask by `send` for a file, and follow redirects; errors as `exchange.ask` has them."""
        hop = Hop(self.url(location), location.authorization)
        return await ask(hop, send, guard=self._guard, waiting=waiting)
