"""The short way: what a plan covers and has to be fetched, checked or waited for, before FastAPI and by the routes' own `answer_with`."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Request
from starlette.responses import Response

from app.content.library import Found
from app.errors import PeerdError
from app.observability.metrics import Metrics
from app.observability.request import App, correlation_id
from app.observability.transfers import Transfers
from app.routes.http_range import RequestedRange
from app.routes.plans import Planned, Plans, target_of
from app.routes.sending import Library, answer_with

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Shortcut:
    """Answers what plans cover; everything else is the application's. `answer_error` is the application's own, for what failed."""

    def __init__(
        self,
        app: App,
        plans: Plans,
        library: Library,
        transfers: Transfers,
        metrics: Metrics,
        *,
        answer_error: Callable[[Request, PeerdError], Response],
        mirror_timeout: float,
    ) -> None:
        self._app = app
        self._plans = plans
        self._library = library
        self._transfers = transfers
        self._metrics = metrics
        self._answer_error = answer_error
        self._mirror_timeout = mirror_timeout

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """One request. Raises ClientLeft, BodyBrokenOff as `send` does."""
        began = time.perf_counter()
        planned = self._planned(scope)
        found = planned.plan.found if planned is not None else None
        if planned is None or not isinstance(found, Found):  # A manifest is answered at once, or by its route.
            await self._app(scope, receive, send)
            return
        try:
            response = await self._answer(planned, found, scope)
        except PeerdError as error:
            self._plans.forget(target_of(scope), planned.plan)  # The next request asks again, from the beginning.
            response = self._answer_error(Request({**scope, "app": self._app}), error)
        await response(scope, receive, send)
        self._metrics.was_answered(planned.plan.handler, response.status_code, time.perf_counter() - began)

    def _planned(self, scope: Scope) -> Planned | None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        return self._plans.find(target_of(scope), scope["headers"])

    async def _answer(self, planned: Planned, found: Found, scope: Scope) -> Response:
        plan = planned.plan
        wanted = RequestedRange(planned.wanted.start, planned.wanted.stop - 1)
        return await answer_with(
            found,
            (wanted,) if planned.is_range else None,
            headers=dict(plan.headers),
            media_type=plan.media_type,
            kind="file" if plan.kind == "file" else "blob",
            correlation_id=correlation_id(scope),
            library=self._library,
            transfers=self._transfers,
            patience_seconds=None if plan.kind == "file" else self._mirror_timeout,
        )
