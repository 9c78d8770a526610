"""The operator's side, on a port of its own: no path of the live API is taken. Reads; changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shadowproxy.serve.census import Census, ShadowCensus
from shadowproxy.serve.metrics import Exporter

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build(exporter: Exporter, census: Callable[[], Census]) -> Starlette:
    """The admin application. Whether requests are taken on is all that makes the sidecar ready or not."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        if census().accepts:
            return _json({"status": "ready"})
        return _json({"status": "stopping"}, status=503)

    async def metrics(_: Request) -> Response:
        return Response(exporter.text(), headers={"content-type": METRICS_TYPE})

    async def shadows(_: Request) -> Response:
        now = census()
        return _json({"shadows": {each.name: _shadow(each) for each in now.shadows}, "journal": asdict(now.journal)})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/shadows", shadows),
        ]
    )


def _shadow(shadow: ShadowCensus) -> dict[str, Any]:
    return {
        field.name: getattr(shadow, field.name) for field in fields(shadow) if field.name not in ("name", "durations")
    }


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, media_type="application/json")
