"""One event a line: JSON for machines, plain for a terminal. Credentials and signatures are cut out of every line."""

import logging
import re
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

# What would let somebody else in: values of signing parameters, and of headers that carry credentials.
_SECRET = re.compile(
    r"(?i)\b(sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential|token|"
    r"access_token|refresh_token|password)=[^&\s\"']+|\b(authorization|proxy-authorization)(['\"]?\s*[:=]\s*['\"]?)[^\s'\",]+(?:\s+[^\s'\",]+)?"
)


def cut_secrets(text: str) -> str:
    """`text` without what would let somebody else in."""
    return _SECRET.sub(lambda match: f"{match[1] or match[2]}{match[3] or '='}***", text)


class _Cutting(logging.Filter):
    """Formats a record's message at once and cuts secrets out of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = cut_secrets(record.getMessage()), None
        return True


def set_up(*, level: str, form: Literal["json", "text"], node: str, version: str) -> None:
    """Send all logs to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Cutting())
    if form == "json":
        fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
        names = {"asctime": "time", "levelname": "level"}
        handler.setFormatter(
            JsonFormatter(fields, rename_fields=names, static_fields={"self": node, "version": version})
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "urllib3", "uvicorn.access", "asyncio", "hpack"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
