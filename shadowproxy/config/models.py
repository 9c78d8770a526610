"""The configuration as frozen models: attribute names are the YAML keys, durations are seconds, sizes are bytes.

docs/reference/configuration.md explains every key. These are pydantic dataclasses, not BaseModels, because a BaseModel
has a method `json`, and `json` is a key here.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from shadowproxy.addresses import TcpAddress, overlap, token_fault
from shadowproxy.config.readers import LIVE, REPEATABLE
from shadowproxy.config.standing import Verdict
from shadowproxy.config.values import (
    Amount,
    Bytes,
    Count,
    FieldName,
    FieldPattern,
    FieldPointer,
    FieldValue,
    File,
    Flag,
    HeaderGlob,
    HostHeader,
    Json,
    JsonGlob,
    LearntPlace,
    Listen,
    Listens,
    LogPath,
    Memory,
    Method,
    Methods,
    Nullable,
    ParameterName,
    ParameterPattern,
    PathGlob,
    Percent,
    PercentBelowAll,
    PlaceInto,
    Pointer,
    PointerPattern,
    PositiveBytes,
    PositiveCount,
    PositivePercent,
    PositiveSeconds,
    PositiveShare,
    Prediction,
    ProxyUrl,
    Ratio,
    RawPath,
    ReadableFile,
    Salt,
    SamplingKey,
    Seconds,
    ShadowName,
    Share,
    StateValue,
    StoreFolder,
    Text,
    Token,
    ToleranceValue,
    Url,
    Word,
)
from shadowproxy.credentials import is_credential_header
from shadowproxy.exchange import Fields
from shadowproxy.stateful import KINDS

STRICT = ConfigDict(extra="forbid")


class KeyFault(ValueError):
    """A conflict between keys. The error names the line of `key`."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
FRAMING = frozenset({"content-length", "expect"})
OWN_FIELDS = frozenset({"via", "x-shadow-request"})
"""Header fields that only the proxy sets: framing depends on them, and recognising its own requests."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RequestId:
    header: FieldName = "X-Request-ID"
    respond: Flag = True

    def __post_init__(self) -> None:
        name = self.header.lower()
        if name in HOP_BY_HOP | FRAMING | OWN_FIELDS | {"host"}:
            raise ValueError(f"header: {name} has a meaning in HTTP, so it cannot hold an ID")
        if is_credential_header(name.encode()):
            raise ValueError(f"header: {name} holds credentials, but an ID is recorded and sent to callers")


AUTO_MOST = 256 << 20
"""Bytes: what `limits.memory: auto` is at most, and without a container."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Limits:
    """Bytes and seconds. `buffer` <= `capture` <= `memory`, unless that is `auto`: then `capture` keeps within it."""

    headers: PositiveBytes = 64 << 10
    buffer: Bytes = 256 << 10
    capture: Bytes = 8 << 20
    memory: Memory = "auto"
    in_flight: PositiveCount = 1000
    head_timeout: PositiveSeconds = 10.0
    body_timeout: PositiveSeconds = 30.0
    idle_timeout: PositiveSeconds = 75.0
    tunnel_timeout: PositiveSeconds = 3600.0

    def __post_init__(self) -> None:
        if self.buffer > self.capture:
            raise ValueError("buffer must not be larger than capture: the bytes held back must fit into the copy")
        if self.capture > (AUTO_MOST if self.memory == "auto" else self.memory):
            raise ValueError("capture must not be larger than memory: one body could exceed the limit for all")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Overload:
    loop_lag: PositiveSeconds = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Headers:
    """`remove` is done first, then `set` replaces or adds. The values may be secrets, so the repr leaves them out."""

    set: Mapping[FieldName, FieldValue] = Field(default_factory=dict, repr=False)
    remove: tuple[FieldName, ...] = ()

    def __post_init__(self) -> None:
        names = [name.lower() for name in self.set]
        for name in names:
            if name in HOP_BY_HOP | FRAMING:
                raise ValueError(f"set: {name} belongs to one connection, the proxy writes it itself")
            if name in OWN_FIELDS:
                raise ValueError(f"set: {name} marks the proxy's own requests, it cannot be set")
            if name == "host":
                raise ValueError("set: the key for the Host header is `host`, next to `url`")
            if names.count(name) > 1:
                raise ValueError(f"set: {name} appears twice, case does not matter in header names")
            if name in {removed.lower() for removed in self.remove}:
                raise ValueError(f"{name} is both set and removed: set alone replaces the caller's")
        for name in self.remove:
            if name.lower() in FRAMING | {"host"}:
                raise ValueError(f"remove: a request needs {name.lower()}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Query:
    """The same for query parameters: names percent-decoded, values as they are in the URL."""

    set: Mapping[ParameterName, Text] = Field(default_factory=dict, repr=False)
    remove: tuple[ParameterName, ...] = ()

    def __post_init__(self) -> None:
        for name in self.set:
            if name in self.remove:
                raise ValueError(f"{name} is both set and removed: set alone replaces the caller's")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Tls:
    """PEM files. `ca` replaces the system's authorities; `cert` and `key` are ours; `cert` may contain the key."""

    ca: Annotated[File | None, Nullable] = None
    cert: Annotated[File | None, Nullable] = None
    key: Annotated[File | None, Nullable] = None
    verify: Flag = True

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise ValueError("key needs cert")
        if self.ca is not None and not self.verify:
            raise ValueError("ca has no effect with verify: false")

    @property
    def files(self) -> Mapping[str, Path]:
        """The files to read, by key."""
        named = {"ca": self.ca, "cert": self.cert, "key": self.key}
        return {key: path for key, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LiveTls(Tls):
    """Live's files must exist when the configuration is loaded. A shadow's may come later."""

    ca: Annotated[ReadableFile | None, Nullable] = None
    cert: Annotated[ReadableFile | None, Nullable] = None
    key: Annotated[ReadableFile | None, Nullable] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ListenTls:
    """PEM files, for TLS with callers. With `client_ca`, callers need a certificate; `cert` may contain the key."""

    cert: ReadableFile
    key: Annotated[ReadableFile | None, Nullable] = None
    client_ca: Annotated[ReadableFile | None, Nullable] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Respond:
    """A fixed answer: `json`, `text` or no body. The default `status` is 200, or 204 without a body."""

    status: Annotated[Count | None, Field(ge=200, le=599), Nullable] = None
    headers: Mapping[FieldName, FieldValue] = Field(default_factory=dict)
    json: Json = None
    text: Text | None = None

    def __post_init__(self) -> None:
        if self.json is not None and self.text is not None:
            raise ValueError("give json or text, not both")
        if self.status in (204, 205, 304) and self._body() is not None:
            raise ValueError(f"an answer with status {self.status} has no body")
        for name in self.headers:
            if name.lower() in HOP_BY_HOP | FRAMING:
                raise ValueError(f"headers: {name.lower()} is written by the proxy itself")

    def _body(self) -> tuple[bytes, bytes] | None:
        if self.json is not None:
            return orjson.dumps(self.json, default=float), b"application/json"
        if self.text is not None:
            return self.text.encode(), b"text/plain; charset=utf-8"
        return None

    def reply(self) -> tuple[int, Fields, bytes]:
        """Status, header fields without Content-Length, and body, as they are sent."""
        body = self._body()
        fields = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        if body is None:
            return self.status or 204, tuple(fields), b""
        content, content_type = body
        if not any(name.lower() == b"content-type" for name, _ in fields):
            fields.append((b"Content-Type", content_type))
        return self.status or 200, tuple(fields), content


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Live:
    """The system that answers the caller: at `url`, or a fixed answer. Exactly one of the two is set."""

    url: Annotated[Url | None, Nullable] = None
    proxy: Annotated[ProxyUrl | None, Nullable] = Field(default=None, repr=False)
    connect_timeout: PositiveSeconds = 5.0
    max_age: Annotated[PositiveSeconds | None, Nullable] = 60.0
    timeout: PositiveSeconds = 600.0
    host: HostHeader = "upstream"
    retry: Annotated[Literal["idle", "off"], Word] = "idle"
    headers: Headers = Headers()
    query: Query = Query()
    tls: LiveTls = LiveTls()
    respond: Respond | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (self.respond is None):
            raise ValueError("needs either url, or respond for a fixed answer")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Unless:
    """The requests that a shadow does not get although they match: any one part must hold."""

    methods: tuple[Method, ...] = ()
    paths: tuple[PathGlob, ...] = ()
    headers: Mapping[FieldName, HeaderGlob] = Field(default_factory=dict)
    json: Mapping[FieldPointer, JsonGlob] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Match:
    """The requests that a shadow gets. Every part must hold; an empty part, except `methods`, always does."""

    methods: Methods = REPEATABLE
    paths: tuple[PathGlob, ...] = ()
    headers: Mapping[FieldName, HeaderGlob] = Field(default_factory=dict)
    json: Mapping[FieldPointer, JsonGlob] = Field(default_factory=dict)
    not_: Unless = Field(default=Unless(), alias="not")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Breaker:
    failures: PositiveCount = 20
    pause: PositiveSeconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Rewrite:
    """`path` maps a whole path to a whole path, `json` a pointer to the new value there."""

    path: Mapping[RawPath, RawPath] = Field(default_factory=dict)
    json: Mapping[Pointer, Json] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Budget:
    requests: Annotated[Count | None, Nullable] = None
    duration: Annotated[Seconds | None, Nullable] = None
    tokens: Annotated[Count | None, Nullable] = None
    cost: Annotated[Amount | None, Nullable] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class State:
    """A shadow that has IDs of its own. An empty `learn` is `auto`; `age` is in seconds, from a pair's last use."""

    learn: tuple[LearntPlace, ...] = ()
    into: tuple[PlaceInto, ...] = KINDS
    pairs: PositiveCount = 20_000
    age: PositiveSeconds = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class While:
    """What must hold for a percent to rise: ratios and shares. null: without this condition."""

    live_p99_ratio: Annotated[Ratio | None, Nullable] = 1.05
    shadow_errors: Annotated[Share | None, Nullable] = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Ramp:
    """A percent that rises from one to another within `over` seconds, by steps that double it, and steps back."""

    from_: PositivePercent = Field(alias="from")
    to: PositivePercent = 100.0
    over: PositiveSeconds
    hold_out: PercentBelowAll = 5.0
    while_: While = Field(default=While(), alias="while")

    def __post_init__(self) -> None:
        if self.from_ >= self.to:
            raise ValueError("from must be lower than to; a percent that stays is a plain number")
        steps = math.ceil(math.log2(self.to / self.from_))
        if self.over < steps:
            raise ValueError(f"over must be at least {steps} s: the percent rises in {steps} steps of 1 s or more")


NUMBER, RAMP = "(number)", "(ramp)"
"""The two forms of `percent`. Pydantic names them in the location of an error; no key looks like that."""


def _form(value: object) -> str:
    return RAMP if isinstance(value, Mapping | Ramp) else NUMBER


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Shadow:
    url: Url
    proxy: Annotated[ProxyUrl | None, Nullable] = Field(default=None, repr=False)
    percent: Annotated[Annotated[Percent, Tag(NUMBER)] | Annotated[Ramp, Tag(RAMP)], Discriminator(_form)] = 100.0
    match: Match = Match()
    connect_timeout: PositiveSeconds = 5.0
    max_age: Annotated[PositiveSeconds | None, Nullable] = 60.0
    timeout: PositiveSeconds = 30.0
    in_flight: PositiveCount = 64
    lane: Count = 256
    breaker: Breaker = Breaker()
    host: HostHeader = "upstream"
    forward_credentials: Flag = False
    headers: Headers = Headers()
    query: Query = Query()
    rewrite: Rewrite = Rewrite()
    state: Annotated[State | None, Nullable, StateValue] = None
    budget: Budget = Budget()
    tls: Tls = Tls()

    @property
    def ramp(self) -> Ramp | None:
        """How its percent rises, None where it is a number."""
        return self.percent if isinstance(self.percent, Ramp) else None

    @property
    def first_percent(self) -> float:
        """The percent from the start on."""
        return self.percent.from_ if isinstance(self.percent, Ramp) else self.percent


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class UnusableShadow(Shadow):
    """A shadow that gets no requests, since the environment lacks a value of its section.

    Missing values have their defaults here; `reason` names them in one line.
    """

    reason: str


UNKNOWN_URL = "https://unknown.invalid"
"""The `url` of a shadow whose own is missing: no host can have this name (RFC 6761 section 6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Control:
    percent: Percent = 0.0
    methods: Methods = REPEATABLE


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Sampling:
    key: SamplingKey = "request_id"
    salt: Salt = ""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Rotate:
    size: PositiveBytes = 256 << 20
    every: PositiveSeconds = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Keep:
    """The most that stays of the log; null: no limit."""

    size: Annotated[PositiveBytes | None, Nullable] = 10 << 30
    age: Annotated[PositiveSeconds | None, Nullable] = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Upload:
    """Where closed segments are sent; null: nowhere. `summaries`: each with its summary beside it."""

    to: Annotated[StoreFolder | None, Nullable] = None
    summaries: Flag = True


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Redact:
    """Additions to the built-in lists: names with `*` for any characters, and pointers as in Compare.

    With a `hash_key` a redacted value becomes its keyed hash: equal values stay equal.
    """

    headers: tuple[FieldPattern, ...] = ()
    query: tuple[ParameterPattern, ...] = ()
    json: tuple[PointerPattern, ...] = ()
    hash_key: Annotated[Annotated[FieldValue, Field(min_length=1)] | None, Nullable] = Field(default=None, repr=False)


Bodies = Annotated[Literal["full", "hash", "none"], Word]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class BodiesBy:
    """How bodies are recorded, by what became of the exchange. With `hash` an answer of up to 4 KiB stays."""

    match: Bodies = "full"
    mismatch: Bodies = "full"
    incomparable: Bodies = "full"
    failed: Bodies = "full"
    alone: Bodies = "full"


WORD, BY = "(word)", "(by verdict)"
"""The two forms of `bodies`, as those of `percent`."""


def _bodies_form(value: object) -> str:
    return BY if isinstance(value, Mapping | BodiesBy) else WORD


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Sample:
    """Which share is written of the exchanges whose answers match, and of those for which no shadow was chosen.

    `slow`: an exchange in which a shadow took so many times as long as live is always written; null: without this.
    """

    match: PositiveShare = 1.0
    alone: PositiveShare = 1.0
    slow: Annotated[Ratio | None, Nullable] = 2.0

    @property
    def writes_shares(self) -> bool:
        """Whether not all exchanges are written."""
        return self.match < 1 or self.alone < 1


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Log:
    path: LogPath = "shadow-log"
    rotate: Rotate = Rotate()
    compress: Annotated[Literal["zstd", "gzip", "none"], Word] = "zstd"
    keep: Keep = Keep()
    upload: Upload = Upload()
    bodies: Annotated[Annotated[Bodies, Tag(WORD)] | Annotated[BodiesBy, Tag(BY)], Discriminator(_bodies_form)] = "full"
    sample: Sample = Sample()
    body_limit: Bytes = 256 << 10
    redact: Redact = Redact()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Tolerance:
    """Two numbers are equal when they differ by at most max(abs, rel * the larger magnitude)."""

    abs: Amount = 0.0
    rel: Amount = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Compare:
    """Pointers into the answer's JSON; `*` stands for any one name or index, `**` for any number of them.

    `set_aside`: what a known envelope generates for every call does not count. `prediction` is the field that holds the
    answer, for all endpoints or by endpoint; null: the report finds it.
    """

    ignore: tuple[PointerPattern, ...] = ()
    tolerance: Mapping[PointerPattern, Annotated[Tolerance, ToleranceValue]] = Field(default_factory=dict)
    unordered: tuple[PointerPattern, ...] = ()
    set_aside: Flag = True
    prediction: Annotated[Prediction | None, Nullable] = None
    online: Flag = True

    def predictions(self, shadows: Iterable[str]) -> dict[str, tuple[str, str]]:
        """By shadow, where the answer is in live's answers and in its own; empty if one place holds for all."""
        named = self.prediction
        if not isinstance(named, Mapping):
            return {}
        return {name: (named[LIVE], named.get(name, named[LIVE])) for name in shadows}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Config:
    """The whole of it. Made by `load`, `read` and `from_values`, which raise ConfigError."""

    listen: Listens = (TcpAddress("127.0.0.1", 8080),)
    listen_tls: ListenTls | None = None
    admin: Annotated[Listen | None, Nullable] = TcpAddress("127.0.0.1", 9901)
    admin_token: Annotated[Token | None, Nullable] = Field(default=None, repr=False)
    workers: Annotated[PositiveCount, Field(le=128)] = 1
    drain: Seconds = 30.0
    request_id: RequestId = RequestId()
    forwarded: Flag = False
    limits: Limits = Limits()
    overload: Overload = Overload()
    live: Live
    shadows: Mapping[ShadowName, Shadow] = Field(default_factory=dict)
    control: Control = Control()
    sampling: Sampling = Sampling()
    log: Log = Log()
    compare: Compare = Compare()
    verdict: Annotated[Verdict | None, Nullable] = Verdict()

    def __post_init__(self) -> None:
        if self.admin is not None and any(overlap(self.admin, each) for each in self.listen):
            raise KeyFault("admin", "must differ from listen, or its paths would hide those of the callers")
        if self.listen_tls is not None and not any(isinstance(each, TcpAddress) for each in self.listen):
            raise KeyFault("listen_tls", "has no effect: a Unix socket has no TLS, and listen has no other address")
        if self.admin_token is not None and (fault := token_fault(self.admin, self.admin_token)) is not None:
            raise KeyFault("admin_token", fault)
        if not self.compare.online and (self.log.sample.writes_shares or isinstance(self.log.bodies, BodiesBy)):
            raise KeyFault(
                "log", "sample, and bodies by verdict, need the verdict, which compare.online: false leaves out"
            )
        if self.log.upload.to is not None and self.log.path == "-":
            raise KeyFault("log", "upload sends a directory's segments, and path is standard output")
        if self.live.respond is not None and self.control.percent:
            raise KeyFault("control", "has no use with live.respond, which always answers the same")
        if isinstance(self.compare.prediction, Mapping):
            unknown = self.compare.prediction.keys() - self.shadows.keys() - {LIVE}
            if unknown:
                raise KeyFault("compare", f"prediction names {sorted(unknown)[0]}, and no shadow has that name")
        memory = AUTO_MOST if self.limits.memory == "auto" else self.limits.memory
        if self.limits.capture * self.workers > memory:
            raise KeyFault(
                "limits",
                f"capture must not be larger than memory / workers, which is {memory} / {self.workers}: "
                "each worker gets an equal share",
            )
