"""The digest that a URL names.

Owns: which URLs of which hosts are believed to name their content. Anybody may write a digest into a URL of his own, so the
patterns are anchored to hosts that only a registry's operator can put content on; and even then the name is only a claim,
until the whole has been hashed (app.content.key says what follows).
"""

import re
from collections.abc import Collection, Iterator
from urllib.parse import SplitResult, unquote, urlsplit

from app.content.digest import Digest
from app.errors import BadRequest

# Azure Container Registry, its clouds, and its data endpoints `<name>.<region>.data.azurecr.io` ("Mitigate data
# exfiltration with dedicated data endpoints"). A label first: a host that merely ends alike is `evilazurecr.io`.
_LABELS = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+"
_AZURE_REGISTRY = re.compile(_LABELS + r"azurecr\.(?:io|cn|us)")
# Microsoft's own registry and its data endpoints.
_MICROSOFT_REGISTRY = re.compile(r"mcr\.microsoft\.com|" + _LABELS + r"data\.mcr\.microsoft\.com")
# Storage accounts of Azure's clouds: public, China, US government, and Germany, which is closed.
_STORAGE_ACCOUNT = re.compile(
    r"[a-z0-9]{3,24}\.(?:z[0-9]{1,3}\.)?blob\."
    r"(?:core\.windows\.net|storage\.azure\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|core\.cloudapi\.de)"
)

# distribution, registry/storage/paths.go: blobDataPathSpec, below a container or segment that Azure puts before it.
_STORAGE_PATH = re.compile(r"(?:/[^/]*)?//?docker/registry/v2/blobs/sha256/([0-9a-f]{2})/([0-9a-f]{64})/data")
# distribution-spec, "Pulling blobs".
_BLOB_PATH = re.compile(r"/v2/[a-z0-9][a-z0-9._/-]*/blobs/([a-z0-9]+:[0-9a-f]+)")
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")


def digest_in_url(url: str, *, registry_hosts: Collection[str]) -> Digest | None:
    """What the content of `url` claims to hash to; None when it claims nothing that is believed of its host.

    Args:
        url: as the client wrote it.
        registry_hosts: host and port of registries that options name, in lower case, as they stand in URLs.
    """
    if _UNSENDABLE.search(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    host = parts.netloc.lower()
    if host in registry_hosts and parts.scheme in ("http", "https"):
        claims = [*_in_blob_path(parts), *_in_storage_path(parts), *_in_query(parts)]
    elif parts.scheme != "https":
        # Anybody on the way may answer for a public host over http.
        return None
    elif _AZURE_REGISTRY.fullmatch(host):
        claims = [*_in_blob_path(parts), *_in_storage_path(parts), *_in_query(parts)]
    elif _MICROSOFT_REGISTRY.fullmatch(host):
        claims = [*_in_blob_path(parts), *_in_storage_path(parts)]
    elif _STORAGE_ACCOUNT.fullmatch(host):
        claims = [*_in_storage_path(parts)]
    else:
        return None
    # Two claims that differ are none.
    return _parsed(claims[0]) if len(set(claims)) == 1 else None


def _in_blob_path(parts: SplitResult) -> Iterator[str]:
    if match := _BLOB_PATH.fullmatch(parts.path):
        yield match[1]


def _in_storage_path(parts: SplitResult) -> Iterator[str]:
    if (match := _STORAGE_PATH.fullmatch(parts.path)) and match[2].startswith(match[1]):
        yield f"sha256:{match[2]}"


def _in_query(parts: SplitResult) -> Iterator[str]:
    """`?…&d=sha256:<hex>…` of Azure's data endpoints, which have no path."""
    if parts.path in ("", "/"):
        for pair in parts.query.split("&"):
            name, _, value = pair.partition("=")
            if name == "d":
                yield unquote(value)


def _parsed(claim: str) -> Digest | None:
    try:
        return Digest.parse(claim)
    except BadRequest:
        return None
