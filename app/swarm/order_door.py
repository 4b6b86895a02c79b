"""The answering side of orders, behind the peer door: what other members may have this node do. See `protocol`."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.errors import BadRequest
from app.operations.documents import BringOrder, Load, PurgeOrder
from app.operations.preheat import Preheats
from app.operations.purge import Purger
from app.operations.shelf import Full
from app.swarm import protocol

Handler = Callable[[Request], Awaitable[Response]]


class OrderDoor:
    """Routes for orders."""

    def __init__(self, purger: Purger, preheats: Preheats, load: Callable[[], Load]) -> None:
        self._purger = purger
        self._preheats = preheats
        self._load = load

    @property
    def routes(self) -> list[Route]:
        """To be put behind the peer door."""
        return [
            Route(protocol.PURGE_PATH, _order(self._purge), methods=["POST"]),
            Route(protocol.BRING_PATH, _order(self._bring), methods=["POST"]),
            Route(protocol.progress_path("{id}"), self._progress),
            Route(protocol.LOAD_PATH, self._get_load),
        ]

    async def _purge(self, request: Request) -> Response:
        forgotten = await self._purger.purge(
            PurgeOrder.from_json(await protocol.read_body(request.stream(), protocol.ORDER_SIZE_MAX))
        )
        return _document(forgotten.to_json())

    async def _bring(self, request: Request) -> Response:
        order = BringOrder.from_json(await protocol.read_body(request.stream(), protocol.ORDER_SIZE_MAX))
        try:
            self._preheats.accept(order)
        except Full as error:
            return PlainTextResponse(str(error), 503, {"Retry-After": "5"})
        return self._progress_of(order.id)

    async def _progress(self, request: Request) -> Response:
        return self._progress_of(request.path_params["id"])

    async def _get_load(self, _request: Request) -> Response:
        return _document(self._load().to_json())

    def _progress_of(self, identity: str) -> Response:
        progress = self._preheats.progress(identity)
        return Response(status_code=404) if progress is None else _document(progress.to_json())


def _order(handler: Handler) -> Handler:
    """A handler for members alone, whose orders can be read."""

    async def guarded(request: Request) -> Response:
        # Without TLS a browser on this machine reaches the door too, but no page can make it send this header unasked.
        if protocol.FROM_PEER_HEADER not in request.headers:
            return PlainTextResponse("orders are taken from members only", 403)
        try:
            return await handler(request)
        except (ValueError, BadRequest) as error:
            return PlainTextResponse(str(error), 400)

    return guarded


def _document(text: bytes) -> Response:
    return Response(text, media_type="application/json")
