"""Which contents an image consists of, as far as this node holds its manifests, and which of them no other image needs. Pure.

The graph is that of manifests: an index names manifests, a manifest names its configuration and layers. What is not held
names nothing.
"""

from collections.abc import Collection, Iterable, Mapping

from app.client.manifest import Index, NotAnImage, read_document
from app.content.digest import Digest

Graph = Mapping[Digest, Collection[Digest]]
"""Each manifest that is held, and what it names."""


def named_by(data: bytes, media_type: str) -> frozenset[Digest]:
    """What a manifest or an index names; nothing, where it can not be read as one."""
    try:
        document = read_document(data, media_type)
    except NotAnImage:
        return frozenset()
    parts = document.manifests if isinstance(document, Index) else document.blobs
    return frozenset(part.digest for part in parts)


def parts_of(roots: Iterable[Digest], graph: Graph, *, without: Collection[Digest] = ()) -> set[Digest]:
    """`roots` and all that they name, however far down; not through `without`."""
    found: set[Digest] = set()
    ahead = list(roots)
    while ahead:
        digest = ahead.pop()
        if digest not in found and digest not in without:
            found.add(digest)
            ahead.extend(graph.get(digest, ()))
    return found


def needed_only_by(roots: Collection[Digest], graph: Graph, parts: Collection[Digest] = ()) -> set[Digest]:
    """`roots`, and those of their parts that no other held manifest needs.

    `parts` are known to be theirs from elsewhere, as manifests that name them may not be held here.
    """
    own = parts_of([*roots, *parts], graph)
    others = [manifest for manifest in graph if manifest not in own]
    return own - parts_of(others, graph, without=roots)
