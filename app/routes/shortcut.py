"""The short way: what a plan covers and has to be fetched, checked or waited for, past FastAPI and what is around it."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

from fastapi import Request
from starlette.responses import Response

from app.content.library import Found
from app.content.reader import Reader
from app.errors import PeerdError
from app.observability.request import CORRELATION_ID, App, RequestStory
from app.routes.plans import Asked, Planned, Plans, target_of
from app.routes.sending import first_slice
from app.routes.short_answer import ShortAnswer, Telling
from app.server.sendfile import HEAD, Sender, outlet_of, send_slice

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Shortcut:
    """Answers what plans cover; everything else is the application's. `answer_error` is the application's own, for what failed."""

    def __init__(
        self,
        app: App,
        plans: Plans,
        reader: Reader,
        telling: Telling,
        *,
        answer_error: Callable[[Request, PeerdError], Response],
        mirror_timeout: float,
    ) -> None:
        self._app = app
        self._whole_way = RequestStory(app, node=telling.node)
        self._plans = plans
        self._reader = reader
        self._telling = telling
        self._answer_error = answer_error
        self._mirror_timeout = mirror_timeout

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """One request. Raises ClientLeft, BodyBrokenOff as `send` does."""
        planned = self._planned(scope)
        found = planned.plan.found if planned is not None else None
        if planned is None or not isinstance(found, Found):  # A manifest is answered at once, or by its route.
            await self._whole_way(scope, receive, send)
            return
        answer = ShortAnswer(self._telling, planned)
        try:
            await self._send(planned, found, answer, outlet_of(scope), send)
        except PeerdError as error:
            self._plans.forget(planned.asked.target, planned.plan)  # The next request asks again, from the beginning.
            answer.gives_way()
            scope[CORRELATION_ID] = answer.correlation_id.decode()
            refusal = self._answer_error(Request({**scope, "app": self._app}), error)
            answer.was_refused(refusal.status_code)
            await RequestStory(refusal, node=self._telling.node, began=answer.began)(scope, receive, send)
        except (
            OSError
        ):  # A disk that can not be read, or no more open files, before anything was sent: the whole way tells of it.
            self._plans.forget(planned.asked.target, planned.plan)
            answer.gives_way()
            await self._whole_way(scope, receive, send)
        except BaseException:
            answer.is_over(whole=False)
            raise
        else:
            answer.is_over(whole=True)

    def _planned(self, scope: Scope) -> Planned | None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        asked = Asked.read(target_of(scope), scope["headers"])
        return None if asked is None else self._plans.find(asked)

    async def _send(
        self, planned: Planned, found: Found, answer: ShortAnswer, outlet: Sender | None, send: Send
    ) -> None:
        """Raises PeerdError or OSError where not even the first byte can be had; nothing was sent then."""
        plan = planned.plan
        patience_seconds = None if plan.kind == "file" else self._mirror_timeout
        if outlet is not None:
            outlet.promise(answer.status, answer.lines, answer.count)
            outlet.tell(answer.went_out)
        try:
            with self._reader.reading(found.content, plan.entry) as reading:
                async with aclosing(reading.slices(planned.wanted, outlet)) as slices:
                    try:
                        part = await first_slice(
                            slices, lambda: None if answer.has_begun else reading.progress(), patience_seconds
                        )
                        if part is not None and not answer.has_begun:
                            lines = answer.lines(part.kind)
                            await send({"type": HEAD, "status": answer.status, "lines": lines, "count": answer.count})
                        while part is not None:
                            await send_slice(part, send)
                            answer.went_out(part.kind, part.count)
                            part = await anext(slices, None)
                    except (PeerdError, OSError) as error:
                        if not answer.has_begun:
                            raise
                        raise answer.broken_off(error) from error
        finally:
            if outlet is not None:
                outlet.withdraw()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
