"""Sources one after the other, for a node that is alone."""

from collections.abc import Iterator, Sequence

from app.content.source import Content, Offer, Source, Want


class InOrder:
    """Each source's offers in turn; chunks from the client's place on. See `Asker`."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def offers(self, content: Content, chunk: int, want: Want) -> Iterator[Offer]:  # noqa: ARG002 -- there is nobody to spare
        """All that any source offers."""
        for source in self._sources:
            yield from source.offers(content, chunk)

    def choose(self, content: Content, wanted: int, first: int) -> int:  # noqa: ARG002
        """The next one that the client will read, else the first."""
        ahead = wanted >> first
        if ahead:
            return first + (ahead & -ahead).bit_length() - 1
        return (wanted & -wanted).bit_length() - 1
