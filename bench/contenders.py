"""Who is measured, and how each is set up: the origins, the peers and the project. All on this machine's loopback."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.builds import Build
from bench.processes import HOST, Running, free_port, running

ANSWER_BYTES = 200
ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"
LARGE = 10_000_000

Start = AbstractContextManager[Running]


def answer(model: str, score: float) -> bytes:
    """What an origin says to a prediction: JSON of `ANSWER_BYTES` bytes."""
    told = {"predictions": [score, 0.25, 0.5], "model": model, "labels": ["late", "on time", "cancelled"], "note": ""}
    told["note"] = "n" * (ANSWER_BYTES - len(json.dumps(told)))
    return json.dumps(told).encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the run keeps its files, Envoy's binary, and the program as it ships: compiled."""

    directory: Path
    envoy: Path
    program: Build

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def run(
        self, name: str, command: Sequence[str | Path], port: int, *, stdout: Path | None = None, admin: int = 0
    ) -> Start:
        return running(name, command, port, log=self.directory / f"{name}.stderr", stdout=stdout, admin=admin)


def origin(place: Place, name: str, said: bytes) -> Start:
    """An nginx that answers /predict with `said`, /up once a whole upload is in, /big with `LARGE` bytes.

    /items is answered with `said` and an ID that is new each time.
    /large and /passing are the file NAME.json in the place's directory, which a measure may write.
    """
    port, inner = free_port(), free_port()
    (place.directory / "big").write_bytes(bytes(LARGE))
    return _nginx(
        place,
        f"origin-{name}",
        port,
        f"""
        server {{
            listen {HOST}:{port} backlog=4096; default_type application/json; root {place.directory};
            location / {{ return 200 '{said.decode()}'; }}
            location = /items {{ return 200 '{{"id": "$request_id", {said.decode()[1:]}'; }}
            location = /big {{ default_type application/octet-stream; }}
            location = /up {{
                client_max_body_size 0; client_body_buffer_size 11m;
                proxy_pass http://{HOST}:{inner}; proxy_pass_request_body off; proxy_set_header Content-Length "";
            }}
            location = /large {{ alias {place.directory}/{name}.json; }}
            location = /passing {{ alias {place.directory}/{name}.json; }}
            location = /requests {{ stub_status; }}
        }}
        server {{ listen {HOST}:{inner}; return 200 ok; }}
        """,
    )


def nginx_mirror(place: Place, live: int, shadow: int) -> Start:
    return _nginx(
        place,
        "nginx-mirror",
        port := free_port(),
        f"""
        upstream live {{ server {HOST}:{live}; keepalive 512; keepalive_requests 100000000; }}
        upstream shadow {{ server {HOST}:{shadow}; keepalive 512; keepalive_requests 100000000; }}
        server {{
            listen {HOST}:{port} backlog=4096; proxy_http_version 1.1; proxy_set_header Connection "";
            location / {{ mirror /shadow; proxy_pass http://live; }}
            location = /shadow {{ internal; proxy_pass http://shadow$request_uri; }}
        }}
        """,
    )


def nginx_plain(place: Place, live: int) -> Start:
    """nginx as a plain streaming proxy: the strongest peer where bodies are too large to be mirrored."""
    return _nginx(
        place,
        "nginx-plain",
        port := free_port(),
        f"""
        upstream live {{ server {HOST}:{live}; keepalive 64; keepalive_requests 100000000; }}
        server {{
            listen {HOST}:{port}; proxy_http_version 1.1; proxy_set_header Connection ""; client_max_body_size 0;
            proxy_request_buffering off; proxy_max_temp_file_size 0;
            location / {{ proxy_pass http://live; }}
        }}
        """,
    )


def _nginx(place: Place, name: str, port: int, servers: str) -> Start:
    config = place.file(
        f"{name}.conf",
        f"""
        daemon off; worker_processes 1; pid {place.directory}/{name}.pid; error_log stderr crit;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 100000000; sendfile on; tcp_nodelay on;
            client_body_temp_path {place.directory}/{name}.body; proxy_temp_path {place.directory}/{name}.proxy;
            fastcgi_temp_path {place.directory}/{name}.f; uwsgi_temp_path {place.directory}/{name}.u;
            scgi_temp_path {place.directory}/{name}.s;
            {servers}
        }}
        """,
    )
    return place.run(name, ["nginx", "-e", "stderr", "-p", place.directory, "-c", config], port)


def envoy_mirror(place: Place, live: int, shadow: int) -> Start:
    def cluster(name: str, port: int) -> dict[str, Any]:
        address = {"socket_address": {"address": HOST, "port_value": port}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    port = free_port()
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster": "live",
            "request_mirror_policies": [
                {"cluster": "shadow", "runtime_fraction": {"default_value": {"numerator": 100}}},
            ],
        },
    }
    manager = {
        "@type": f"{ENVOY_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{ENVOY_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "in",
        "address": {"socket_address": {"address": HOST, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    resources = {"listeners": [listener], "clusters": [cluster("live", live), cluster("shadow", shadow)]}
    config = place.file("envoy.json", json.dumps({"static_resources": resources}))
    command: list[str | Path] = [
        place.envoy,
        "-c",
        config,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    return place.run("envoy-mirror", command, port)


def shadowproxy(
    place: Place,
    name: str,
    live: int,
    shadow: int | None,
    *,
    build: Build | None = None,
    shadows: Mapping[str, Mapping[str, Any]] | None = None,
    log: Mapping[str, Any] | None = None,
    sheds: bool = True,
    full_disk: bool = False,
    interpreted: bool = False,
    on_httpx: bool = False,
    workers: int = 1,
) -> Start:
    """The project with its defaults: full records with bodies and verdicts, redaction on. No shadow if None.

    It is the place's compiled program, unless it is another `build`, or is to be `interpreted`, as it is `on_httpx`.
    `shadows` and `log` are keys of the configuration that change the defaults; `shadows` stands for `shadow`. Unless it
    `sheds`, it mirrors even while its event loop is late, which is for making a log, not for measuring.
    """
    port, admin = free_port(), free_port()
    if shadows is None:
        shadows = {} if shadow is None else {"challenger": {"url": f"http://{HOST}:{shadow}"}}
    config: dict[str, Any] = {
        "listen": f"{HOST}:{port}",
        "admin": f"{HOST}:{admin}",
        "workers": workers,
        "live": {"url": f"http://{HOST}:{live}"},
        "shadows": shadows,
        "log": {"path": "-" if full_disk else str(place.directory / f"{name}-log")} | dict(log or {}),
    }
    if not sheds:
        config["overload"] = {"loop_lag": "60s"}
    file = place.file(f"{name}.yaml", json.dumps(config))
    python = (build or place.program).python
    # Without -P the sources in the working directory are found before the compiled program of that same Python.
    words = ["-m", "bench.on_httpx", str(file)] if on_httpx else ["-m", "shadowproxy", "serve", "-c", str(file)]
    command: list[str | Path] = [python, *([] if interpreted or on_httpx else ["-P"]), *words]
    return place.run(name, command, port, stdout=Path("/dev/full") if full_disk else None, admin=admin)


@contextlib.contextmanager
def events(place: Place, name: str, count: int, seconds: float) -> Iterator[Running]:
    """A server of event streams: the first event comes at once, the others `seconds` apart."""
    port = free_port()
    command = [sys.executable, "-m", "bench.events", str(port), str(count), str(seconds), name]
    with place.run(f"events-{name}", command, port) as started:
        yield started


@contextlib.contextmanager
def numbered(place: Place, model: str, shift: float) -> Iterator[Running]:
    """A server whose answers depend on the number in the request."""
    port = free_port()
    with place.run(model, [sys.executable, "-m", "bench.numbered", str(port), model, str(shift)], port) as started:
        yield started
