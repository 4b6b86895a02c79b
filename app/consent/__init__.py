"""Consent (`--consent upstream`): private content only for those to whom upstream itself would give it.

What a client asks for is found and read as always; this room stands in front of that and asks upstream first, with the client's
own credential and with no other, whether it would give this very content to this client. Nobody else's word counts: not that
this node has it, not that a member has it, not that the node has a credential of its own.
"""

from app.consent.doors import ConsentedLibrary, ConsentedManifests, consented

__all__ = ["ConsentedLibrary", "ConsentedManifests", "consented"]
