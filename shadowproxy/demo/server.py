"""The demo's two systems as real model servers: `shadowproxy demo live|shadow`, or, so that a container needs no click,
`python -m shadowproxy.demo.server live|shadow`.

Both take `{"instances": [...]}` at POST /invocations and answer `{"predictions": ["late", ...]}`, in the same order.
The header field X-Model has the model's name, so that the name makes no difference between two bodies.
"""

import argparse
import asyncio
import errno
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shadowproxy.demo import model, rule
from shadowproxy.demo.flights import FEATURES, LATE, ON_TIME

Late = Callable[[Mapping[str, Any]], bool]
"""Whether the flight in an instance will arrive late."""

PORTS: Mapping[str, int] = MappingProxyType({"live": 9001, "shadow": 9002})
"""Where each listens by default: the addresses of the first steps in README.md."""

_ABOUT = MappingProxyType(
    {
        "live": "an if statement: late if it left more than 15 minutes late",
        "shadow": "boosted trees, trained on January to August",
    }
)


class CannotListen(Exception):
    """An address that cannot be listened on. One line."""


def build(late: Late, name: str) -> Starlette:
    """A model server called `name` that answers with `late`."""
    about = {"X-Model": name}

    async def invocations(request: Request) -> Response:
        try:
            instances = instances_of(json.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400, headers=about)
        predictions = [LATE if late(instance) else ON_TIME for instance in instances]
        return JSONResponse({"predictions": predictions}, headers=about)

    async def ping(request: Request) -> Response:
        return Response(headers=about)

    return Starlette(
        routes=[Route("/invocations", invocations, methods=["POST"]), Route("/ping", ping, methods=["GET"])]
    )


def instances_of(request: Any) -> list[dict[str, Any]]:
    """The instances in a request. Raises ValueError, with a message for the caller, for an invalid request."""
    instances = request.get("instances") if isinstance(request, dict) else None
    if not isinstance(instances, list):
        raise ValueError('the body must be {"instances": [...]}')
    for position, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise ValueError(f"instance {position} is not an object")
        for name, kind in FEATURES.items():
            # Not isinstance: in Python true is an int, but it is not a delay.
            if type(instance.get(name)) is not kind:
                raise ValueError(f"instance {position}: {name} must be {'a whole number' if kind is int else 'a word'}")
    return instances


def serve(system: str, host: str, port: int) -> None:
    """Serve live or the shadow until SIGINT or SIGTERM. Port 0 takes any free one; standard error names it.

    Raises CannotListen.
    """
    shown = f"[{host}]" if ":" in host else host
    try:
        listening = listen_on(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise CannotListen(f"cannot listen on {shown}:{port}: {error.strerror or error}") from None
        raise CannotListen(
            f"cannot listen on {shown}:{port}: the address is in use; choose another with --port"
        ) from None
    # uvicorn catches both signals, and sends them again when it has ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    app = build(rule.departed_late, "departed-late") if system == "live" else build(model.load().late, "gbm")
    # Without the Date field, two answers to the same request are the same bytes at any time.
    config = uvicorn.Config(app, log_level="warning", access_log=False, date_header=False, server_header=False)
    sys.stderr.write(f"listening on http://{shown}:{listening.getsockname()[1]}  {system}, {_ABOUT[system]}\n")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def listen_on(host: str, port: int) -> socket.socket:
    """`::` stands for all addresses of both families, and for those of IPv4 where the system has no other."""
    try:
        # asyncio turns off Nagle's algorithm only if the protocol is named; with it, an answer takes 40 ms.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError:
        if host != "::":
            raise
        return listen_on("0.0.0.0", port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind((host, port))
    listening.listen()
    return listening


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m shadowproxy.demo.server", description="Serve one of the two.")
    parser.add_argument("system", choices=list(PORTS))
    parser.add_argument("--host", default="127.0.0.1", help="an address, or :: for all; default: loopback only")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    options = parser.parse_args()
    try:
        serve(options.system, options.host, options.port)
    except CannotListen as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
