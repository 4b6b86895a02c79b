"""What of a URL may be written down.

Owns: the cut between what tells an operator where something went wrong and what would let a reader of the log fetch it: a
query may sign (`sig=`, `X-Amz-Signature`), user information is a password, an `Authorization` is a credential.
"""

import logging
import re

# A query goes as a whole: which of its parameters sign is a list that would be one behind some day.
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2}[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2})[^\s/?#@'\"<>]*@", re.IGNORECASE)
# A credential's own alphabet (RFC 9110, section 11.2: token68), behind the scheme that announces it.
_CREDENTIAL = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
# Parameters that sign, standing alone: a request target without its host, or a form.
_SIGNATURE = re.compile(
    r"\b(sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+|access_token|refresh_token|token|password)=[^&\s'\"<>]+",
    re.IGNORECASE,
)

# These libraries write whole URLs (httpx at INFO, urllib3 in a WARNING about headers) and headers (httpcore at DEBUG).
_TALKATIVE = ("httpcore", "httpx", "urllib3")


def redact(text: str) -> str:
    """`text` with the queries and user information of its URLs, its credentials and its signatures cut out."""
    text = _USERINFO.sub(r"\1…@", text)
    text = _QUERY.sub(r"\1?…", text)
    text = _CREDENTIAL.sub(r"\1 …", text)
    return _SIGNATURE.sub(r"\1=…", text)


def silence_libraries() -> None:
    """Keep the HTTP libraries from logging what must not be written down, whatever level the root logger has."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
