"""What one configuration means for each process, as plain data that needs neither YAML nor pydantic.

`specify.py` makes it from a configuration. No module that is compiled may hold these classes: a frozen dataclass that
is compiled cannot be unpickled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from shadowproxy.addresses import Address
from shadowproxy.exchange import CONTROL, Fields
from shadowproxy.serve.policy.ramping import RampSettings
from shadowproxy.serve.state.settings import StateSettings

CALLABLE = "call:"
"""How the address of a shadow that is a Python callable begins; its name follows."""


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """PEM files. `ca` replaces the system's authorities; `cert` and `key` are ours; `cert` may contain the key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True

    @property
    def files(self) -> Mapping[str, Path]:
        """The files to read, by key."""
        named = {"ca": self.ca, "cert": self.cert, "key": self.key}
        return {key: path for key, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True)
class ListenTlsSpec:
    """PEM files, for TLS with callers. With `client_ca`, callers need a certificate; `cert` may contain the key."""

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None

    @property
    def files(self) -> Mapping[str, Path]:
        """The files to read, by key."""
        named = {"cert": self.cert, "key": self.key, "client_ca": self.client_ca}
        return {key: path for key, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """The HTTP proxy to go through. `authorization` is the value of its header field; None without credentials."""

    host: str
    port: int
    authorization: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """Where requests go, and how. Times are seconds; `retry`: once more where a kept connection was closed by then."""

    url: str
    connect_timeout: float
    max_age: float | None
    timeout: float
    host: str
    remove_headers: tuple[str, ...]
    set_headers: Mapping[str, str] = field(repr=False)
    remove_parameters: tuple[str, ...]
    set_parameters: Mapping[str, str] = field(repr=False)
    retry: bool
    pace: float
    tls: TlsSpec
    proxy: ProxySpec | None = None


@dataclass(frozen=True, slots=True)
class RequestsSpec:
    """Which requests: as a shadow's `match` in the configuration, and as its `not`."""

    methods: tuple[str, ...]
    paths: tuple[str, ...]
    headers: Mapping[str, str]
    json: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShadowSpec:
    """A shadow, or live as the control. `missing` says what the environment lacks for it; it then gets no requests.

    `percent` is where `ramp` begins, if there is one.
    """

    endpoint: EndpointSpec
    percent: float
    match: RequestsSpec
    unless: RequestsSpec
    rewrite_path: Mapping[str, str]
    rewrite_json: Mapping[str, Any]
    timeout: float
    in_flight: int
    lane: int
    breaker_failures: int
    breaker_pause: float
    budget_requests: int | None
    budget_duration: float | None
    budget_tokens: int | None
    budget_cost: float | None
    forward_credentials: bool
    repeats_by_default: bool
    missing: str | None = None
    state: StateSettings | None = None
    ramp: RampSettings | None = None


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """For a live process: which requests it takes, where they go, and what is mirrored. Sizes are bytes.

    Either `live` or `answer` is set: the endpoint, or the status, fields and body of the fixed answer. `generation`
    counts the configurations that were put in force.

    `candidates` is set in a companion, which gets exchanges from an application instead of callers: the shadows that
    are callables, each with the memory that a process of it may take, None for half of all.

    What the recorder does with bodies: `body_limit` bytes of one are recorded, the hash of a longer one where `hashed`;
    `searched` for secrets are all of them; `names_secrets`: the configuration names secrets in header fields and
    queries, or has some; `compared`: answers are compared.
    """

    live: EndpointSpec | None
    answer: tuple[int, Fields, bytes] | None = field(repr=False)
    shadows: Mapping[str, ShadowSpec]
    control: ShadowSpec | None
    sampling_key: str
    sampling_salt: str
    id_header: str
    respond_id: bool
    forwarded: bool
    headers: int
    buffer: int
    capture: int
    memory: int
    in_flight: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    tunnel_timeout: float
    loop_lag: float
    drain: float
    body_limit: int
    hashed: bool
    searched: bool
    names_secrets: bool
    compared: bool
    listen_tls: ListenTlsSpec | None = None
    candidates: Mapping[str, int | None] | None = None
    generation: int = 1

    @property
    def endpoints(self) -> dict[str, EndpointSpec]:
        """By section: `live`, `shadows.NAME`."""
        live = {} if self.live is None else {"live": self.live}
        return live | {f"shadows.{name}": shadow.endpoint for name, shadow in self.shadows.items()}

    @property
    def reads_bodies(self) -> bool:
        """Whether requests' bodies are decoded, to choose shadows or to write values into them."""
        return self.sampling_key.startswith("json:") or any(
            each.match.json or each.unless.json or each.rewrite_json or each.state is not None
            for each in self.shadows.values()
        )

    @property
    def percents(self) -> dict[str, float]:
        """The percents of the shadows, and of the control: of all that operators can steer."""
        control = {} if self.control is None else {CONTROL: self.control.percent}
        return {name: each.percent for name, each in self.shadows.items()} | control

    @property
    def ramps(self) -> dict[str, tuple[RampSettings, str]]:
        """The ramps, by shadow, each with the shadow's address: another candidate begins again."""
        return {name: (each.ramp, each.endpoint.url) for name, each in self.shadows.items() if each.ramp is not None}

    @property
    def shares(self) -> dict[str, object]:
        """What the file says of each percent, for equality alone."""
        return {**self.percents, **self.ramps}

    @property
    def missing(self) -> dict[str, str]:
        """The shadows for which the environment lacks a value, each with the reason."""
        return {name: each.missing for name, each in self.shadows.items() if each.missing is not None}


@dataclass(frozen=True, slots=True)
class JournalSpec:
    """When the log's segments are closed, compressed and removed, and how much may wait to be written.

    `upload` is where they are sent, with their summaries if `summaries`; these have the answer where `prediction` says.
    """

    path: str
    rotate_size: int
    rotate_every: float
    compress: Literal["zstd", "gzip", "none"]
    keep_size: int | None
    keep_age: float | None
    queue_bytes: int
    upload: str | None = None
    summaries: bool = True
    prediction: str | None = None


@dataclass(frozen=True, slots=True)
class StandingSpec:
    """The standing verdict. `window` is in seconds, `cpu` a share, `gates` as in a file of gates. `live` and `shadows`
    identify the systems that are compared; those of callables last as long as the program runs."""

    window: float | None
    cpu: float | None
    gates: Mapping[str, Any]
    live: str
    shadows: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecorderSpec:
    """For the process that records: how exchanges are judged, redacted, written, traced and shown.

    `own_secrets` are those that the endpoints are sent beside what callers sent. `bodies_by` says how bodies are
    recorded by what became of an exchange, if so, and `sample` has the fields of a `recorder.sample.Sample`.
    `tolerance` has, by pointer, the absolute and the relative bound. `predictions` has, by shadow, where the answer is
    in live's and in its own. `destinations` has each endpoint's URL and its paths' rewrites, by name. `shown` is
    the configuration for the admin page, without secrets.
    """

    journal: JournalSpec
    bodies: Literal["full", "hash", "none"]
    bodies_by: Mapping[str, Literal["full", "hash", "none"]] | None
    sample: tuple[float, float, float | None] | None
    body_limit: int
    redact_headers: tuple[str, ...]
    redact_query: tuple[str, ...]
    redact_json: tuple[str, ...]
    hash_key: str | None = field(repr=False)
    own_secrets: tuple[str, ...] = field(repr=False)
    ignore: tuple[str, ...]
    tolerance: Mapping[str, tuple[float, float]]
    unordered: tuple[str, ...]
    set_aside: bool
    predictions: Mapping[str, tuple[str, str]]
    online: bool
    destinations: Mapping[str, tuple[str, Mapping[str, str]]]
    shown: Mapping[str, Any] = field(repr=False)
    admin_host: str | None
    admin_token: str | None = field(repr=False)
    drain: float = 30.0
    generation: int = 1
    standing: StandingSpec | None = None


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """For the supervisor: the sockets, the processes, and what it says. `files` are all that the configuration names.

    `repeats` has, for each shadow and the control, its name,
    its methods and the words that say which requests are sent a second time.

    `shared_out` has `limits.capture` and `limits.buffer` as they are written where `limits.memory` is `auto`, or else
    None: what becomes of them depends on how many workers there are. `is_companion`: it serves an application.
    `options` are those of the command line that set keys, each with its value.
    """

    listen: tuple[Address, ...]
    admin: Address | None
    workers: int
    drain: float
    log_path: str
    live_url: str | None
    shadows: Mapping[str, str]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    repeats: tuple[tuple[str, tuple[str, ...], str], ...]
    shared_out: tuple[int, int] | None
    is_companion: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Specs:
    """One configuration, for all processes."""

    live: LiveSpec
    recorder: RecorderSpec
    program: ProgramSpec

    def numbered(self, generation: int) -> "Specs":
        """The same as the generation of that number."""
        return Specs(
            replace(self.live, generation=generation), replace(self.recorder, generation=generation), self.program
        )
