"""The operator's side, on a port of its own: no path of the live API is taken. Reads; changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shadowproxy.serve.journal import Journal
from shadowproxy.serve.metrics import Exporter
from shadowproxy.serve.mirror import Lane, Mirror

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build(exporter: Exporter, mirror: Mirror, journal: Journal, accepts: Callable[[], bool]) -> Starlette:
    """The admin application. `accepts` says whether requests are taken on; nothing else makes the sidecar unready."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        if accepts():
            return _json({"status": "ready"})
        return _json({"status": "stopping"}, status=503)

    async def metrics(_: Request) -> Response:
        return Response(exporter.text(), headers={"content-type": METRICS_TYPE})

    async def shadows(_: Request) -> Response:
        lanes = [*mirror.lanes, mirror.control] if mirror.control else mirror.lanes
        return _json({"shadows": {lane.shadow.name: _lane(lane) for lane in lanes}, "journal": _journal(journal)})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/shadows", shadows),
        ]
    )


def _lane(lane: Lane) -> dict[str, Any]:
    return {"percent": lane.shadow.percent, "url": lane.endpoint.url} | asdict(lane.statistics())


def _journal(journal: Journal) -> dict[str, Any]:
    statistics = journal.statistics()
    return {field.name: getattr(statistics, field.name) for field in fields(statistics)} | {
        "lost": dict(statistics.lost)
    }


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, media_type="application/json")
