"""Durations of requests, by method, door and status, through prometheus-fastapi-instrumentator."""

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info

from app.observability.metrics import Metrics

_HANDLERS = (("/v2", "oci"), ("/blobs", "files"))
_QUIET = ("/metrics", "/healthz", "/readyz", "/api/v1/events")


def instrument(app: FastAPI, metrics: Metrics) -> None:
    """Observe every request of `app`, except those of scrapers and probes."""

    def observe(info: Info) -> None:
        path = info.request.scope["path"]
        handler = next((name for start, name in _HANDLERS if path.startswith(start)), "operations")
        duration = info.modified_duration or 0.0
        metrics.request_duration.labels(info.method, handler, info.modified_status).observe(duration)

    instrumentator = Instrumentator(
        should_group_status_codes=False, excluded_handlers=list(_QUIET), registry=metrics.registry
    )
    instrumentator.add(observe).instrument(app)
