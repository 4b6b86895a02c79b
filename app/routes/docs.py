"""The description of the API, for programs (`/openapi.json`) and for people (`/docs`).

Owns: which files are served there, and as what. All of them are ours: the page is Swagger UI from app/docs_assets, and its
Content-Security-Policy has the browser refuse whatever is not from this node.
"""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

_APP = Path(__file__).parent.parent
_DESCRIPTION = _APP / "api" / "openapi.json"
_ASSETS = _APP / "docs_assets"
_PAGE = _ASSETS / "docs.html"

# A table, not a folder: what is not named here can not be asked for, however it is spelt.
_FILES: dict[str, tuple[Path, str]] = {
    "docs.css": (_ASSETS, "text/css"),
    "docs.js": (_ASSETS, "text/javascript"),
    "favicon-32x32.png": (_ASSETS / "swagger-ui", "image/png"),
    "swagger-ui.css": (_ASSETS / "swagger-ui", "text/css"),
    "swagger-ui-bundle.js": (_ASSETS / "swagger-ui", "text/javascript"),
    "swagger-ui-bundle.js.LICENSE.txt": (_ASSETS / "swagger-ui", "text/plain"),
    "LICENSE.txt": (_ASSETS / "swagger-ui", "text/plain"),
    "NOTICE.txt": (_ASSETS / "swagger-ui", "text/plain"),
}

# Swagger UI's style sheet has its icons in data: URLs; all else comes from this node by name.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


async def get_openapi(_request: Request) -> Response:
    """The document that app/api was generated from, as JSON."""
    return FileResponse(_DESCRIPTION, media_type="application/json")


async def get_docs(_request: Request) -> Response:
    """The page; its links are relative, so that it works behind a proxy that puts a prefix before the path."""
    return FileResponse(_PAGE, media_type="text/html", headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})


async def get_docs_asset(_request: Request, *, file: str) -> Response:
    """One file of the page.

    Raises:
        HTTPException: 404, the page has no such file.
    """
    if file not in _FILES:
        raise HTTPException(404, f"/docs has no file {file!r}")
    folder, media_type = _FILES[file]
    return FileResponse(folder / file, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})
