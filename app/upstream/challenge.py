"""What a server wants to see before it answers.

Owns: reading `WWW-Authenticate` (RFC 9110, section 11.6.1) and Docker's parameters in it (distribution, "Token
Authentication Specification").
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# challenge = auth-scheme [ 1*SP ( token68 / #auth-param ) ]; auth-param = token BWS "=" BWS ( token / quoted-string )
_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_TCHARS})(?=\s|,|$)")
_PARAMETER = re.compile(rf'\s*,?\s*({_TCHARS})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TCHARS}))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate. `scheme` and the parameters' names are lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def challenges(header: str | None) -> list[Challenge]:
    """The challenges in a `WWW-Authenticate`, in order; what can not be read ends the list."""
    found: list[Challenge] = []
    text = header or ""
    position = 0
    while scheme := _SCHEME.match(text, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, position):
            position = parameter.end()
            name, quoted, bare = parameter.groups()
            parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
