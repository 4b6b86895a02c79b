"""An upstream's URL, taken apart once and kept byte for byte.

Owns: what is a URL that can be asked at all. Libraries' own parsers are of no use here: they mend escapes (`%2b` becomes
`%2B`), drop tabs, sort or re-encode queries, and each of these breaks a signature or shows a guard another host than the
one that is asked. So the text is cut by RFC 3986's own generic expression and nothing in it is changed.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Self
from urllib.parse import urljoin

from app.errors import BadRequest, UpstreamForbidden

# Room for a signed URL with a session token in it (S3's are about 2 KiB); nginx refuses request lines beyond 8 KiB,
# Go's server and IIS beyond 1 MiB and 16 KiB.
URL_LENGTH_MAX = 16 * 1024

# RFC 3986, appendix B, with the scheme that we know.
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# RFC 9112, section 3.2: a request target has visible ASCII only; a space or a line end would end it early.
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
# RFC 952 and 1123, with the underscore that real names have. No percent-encoding: a resolver would not undo it.
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
# "Ends in a number" (WHATWG URL, host parsing): what inet_aton(3), and so getaddrinfo(3), reads as an IPv4 address.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PORT = re.compile(r"[0-9]{1,5}")

_DEFAULT_PORT = {"http": 80, "https": 443}

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 6454): where a credential may go. `host` is lower case, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """An absolute `http` or `https` URL.

    Attributes:
        origin: whom to connect to.
        netloc: host and port as they were written, for `Host`, which some signatures cover.
        target: path and query as they were written, for the request line. Never in `repr`: it may be signed.
    """

    origin: Origin
    netloc: str
    target: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The URL that `text` is.

        Raises:
            BadRequest: it is none, or can not be put on a request line.
            UpstreamForbidden: it is one that is never asked: another scheme, user information, or a host spelled so that
                it would be read as an address by some and as a name by others.
        """
        if len(text) > URL_LENGTH_MAX:
            raise BadRequest(f"the URL has {len(text)} characters; at most {URL_LENGTH_MAX} are taken")
        if _UNSENDABLE.search(text):
            raise BadRequest("the URL has a blank, a control character or one beyond ASCII in it; escape it as %XX")
        parts = _PARTS.fullmatch(text)
        if parts is None:
            if _SCHEME.match(text):
                raise UpstreamForbidden("only http:// and https:// URLs are asked", reason="scheme")
            raise BadRequest("that is no absolute URL; it begins with https:// or http://")
        scheme, netloc, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
        if scheme not in _DEFAULT_PORT:
            raise UpstreamForbidden("only http:// and https:// URLs are asked", reason="scheme")
        return cls(_origin(scheme, netloc), netloc, (path or "/") + query)

    def redirected(self, location: str) -> Self:
        """Where `Location: <location>` leads from here (RFC 9110, section 10.2.2); raises as `parse` does.

        A location that is absolute in any way is taken byte for byte; only a relative path has to be joined.
        """
        if _SCHEME.match(location):
            return self.parse(location)
        if location.startswith("//"):
            return self.parse(f"{self.origin.scheme}:{location}")
        if location.startswith("/"):
            return self.parse(f"{self.origin.scheme}://{self.netloc}{location}")
        return self.parse(urljoin(str(self), location))

    def shown(self) -> str:
        """What may be written down: no query, which may sign."""
        path, question_mark, _ = self.target.partition("?")
        return f"{self.origin.scheme}://{self.netloc}{path}" + ("?…" if question_mark else "")

    def __str__(self) -> str:
        return f"{self.origin.scheme}://{self.netloc}{self.target}"


def literal(host: str) -> Address | None:
    """The address that an `Origin.host` is, when it is one and no name."""
    if ":" in host:
        return IPv6Address(host)
    return IPv4Address(host) if _ENDS_IN_NUMBER.fullmatch(host) else None


def _origin(scheme: str, netloc: str) -> Origin:
    """The origin that `netloc` names under `scheme`; raises BadRequest or UpstreamForbidden."""
    if "@" in netloc:
        raise UpstreamForbidden(
            "a URL with user information before its host is not asked; send Authorization instead", reason="userinfo"
        )
    if netloc.startswith("["):
        host, bracket, rest = netloc[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadRequest("the URL's host begins with a bracket and is no IPv6 address")
        host, port = _ipv6(host), rest[1:]
    else:
        host, _, port = netloc.partition(":")
        host = _name_or_ipv4(host.lower().removesuffix("."))
    if not port:
        return Origin(scheme, host, _DEFAULT_PORT[scheme])
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise BadRequest("the URL's port is not a number from 1 to 65535")
    return Origin(scheme, host, int(port))


def _ipv6(text: str) -> str:
    """An IPv6 address in its one canonical spelling; a zone is refused, it only makes sense for link-local ones."""
    if "%" in text:
        raise UpstreamForbidden("an address with a zone is link-local and not asked", reason="address")
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise BadRequest("the URL's host begins with a bracket and is no IPv6 address") from None


def _name_or_ipv4(host: str) -> str:
    """A name, or an IPv4 address in its one canonical spelling."""
    if not host:
        raise BadRequest("the URL has no host")
    if _ENDS_IN_NUMBER.fullmatch(host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise UpstreamForbidden(
                f"{host[:64]} is an address in an unusual spelling, which is never asked; write it as four decimal numbers",
                reason="address",
            ) from None
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise UpstreamForbidden(
            "the URL's host is no name of letters, digits and dashes; it is not asked", reason="host"
        )
    return host
