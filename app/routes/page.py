"""The live page.

Owns: which files it is made of, and as what they are served. All of them are this node's own, and its Content-Security-Policy
has the browser refuse everything else. What it shows comes from `/api/v1`.
"""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

_PAGE = Path(__file__).parent.parent / "page"

# A table, not a folder: what is not named here can not be asked for, however it is spelt.
_FILES: dict[str, tuple[Path, str]] = {
    "icon.svg": (_PAGE, "image/svg+xml"),
    "page.css": (_PAGE, "text/css"),
    **{
        f"{name}.js": (_PAGE, "text/javascript")
        for name in (
            "chart",
            "contents",
            "dom",
            "errors",
            "format",
            "history",
            "images",
            "live",
            "members",
            "page",
            "sources",
            "summary",
            "theme",
            "transfers",
        )
    },
    "uPlot.iife.min.js": (_PAGE / "uplot", "text/javascript"),
    "uPlot.min.css": (_PAGE / "uplot", "text/css"),
    "LICENSE": (_PAGE / "uplot", "text/plain"),
}

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


async def get_page(_request: Request) -> Response:
    """The page; its links are relative, so that it works behind a proxy that puts a prefix before the path."""
    headers = {"Content-Security-Policy": _CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_PAGE / "page.html", media_type="text/html", headers=headers)


async def get_page_asset(_request: Request, *, file: str) -> Response:
    """One file of the page.

    Raises:
        HTTPException: 404, the page has no such file.
    """
    if file not in _FILES:
        raise HTTPException(404, f"/page has no file {file!r}")
    folder, media_type = _FILES[file]
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return FileResponse(folder / file, media_type=media_type, headers=headers)
