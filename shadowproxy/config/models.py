"""The configuration as frozen models: attribute names are the YAML keys, durations are seconds, sizes are bytes.

docs/configuration.md tells what every key does. These are pydantic dataclasses and not BaseModels because a BaseModel
has a method `json`, and `json` is a key here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from shadowproxy.config.source import FromEnvironment
from shadowproxy.config.values import (
    REPEATABLE,
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
    Listen,
    LogPath,
    Method,
    Methods,
    Nullable,
    ParameterName,
    ParameterPattern,
    PathGlob,
    Percent,
    Pointer,
    PointerPattern,
    PositiveBytes,
    PositiveCount,
    PositiveSeconds,
    RawPath,
    ReadableFile,
    Salt,
    SamplingKey,
    Seconds,
    ShadowName,
    TcpAddress,
    Text,
    Token,
    ToleranceValue,
    UnixAddress,
    Url,
    Word,
)
from shadowproxy.credential_values import is_credential, is_credential_field
from shadowproxy.credentials import is_credential_header
from shadowproxy.exchange import Fields
from shadowproxy.redaction import Redaction

STRICT = ConfigDict(extra="forbid")


class KeyFault(ValueError):
    """What is wrong between several keys, and which of them is to blame: its line is told."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
FRAMING = frozenset({"content-length", "expect"})
OWN_FIELDS = frozenset({"via", "x-shadow-request"})
"""Header fields that the proxy decides: framing hangs on them, and knowing its own requests again."""

SHORT_TOKEN = 16
"""Characters below which a token is warned of, and refused where more than this machine can try them."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RequestId:
    header: FieldName = "X-Request-ID"
    respond: Flag = True

    def __post_init__(self) -> None:
        name = self.header.lower()
        if name in HOP_BY_HOP | FRAMING | OWN_FIELDS | {"host"}:
            raise ValueError(f"header: {name} has a meaning on the wire, it cannot hold an ID")
        if is_credential_header(name.encode()):
            raise ValueError(f"header: {name} holds credentials, and an ID is logged and returned")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Limits:
    """Bytes and seconds. `buffer` <= `capture` <= `memory`."""

    headers: PositiveBytes = 64 << 10
    buffer: Bytes = 256 << 10
    capture: Bytes = 8 << 20
    memory: PositiveBytes = 256 << 20
    in_flight: PositiveCount = 1000
    head_timeout: PositiveSeconds = 10.0
    body_timeout: PositiveSeconds = 30.0
    idle_timeout: PositiveSeconds = 75.0

    def __post_init__(self) -> None:
        if self.buffer > self.capture:
            raise ValueError("buffer must not be larger than capture: what is held back must fit into the copy")
        if self.capture > self.memory:
            raise ValueError("capture must not be larger than memory: one body would be over the bound for all")


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
                raise ValueError(f"set: {name} is between two neighbours on the wire, the proxy writes it itself")
            if name in OWN_FIELDS:
                raise ValueError(f"set: {name} is how the proxy knows its own requests, it cannot be set")
            if name == "host":
                raise ValueError("set: the key for the Host header is `host`, next to `url`")
            if names.count(name) > 1:
                raise ValueError(f"set: {name} is here twice, header names have no case")
            if name in {removed.lower() for removed in self.remove}:
                raise ValueError(f"{name} is both set and removed: set alone replaces what came")
        for name in self.remove:
            if name.lower() in FRAMING | {"host"}:
                raise ValueError(f"remove: a request cannot go without {name.lower()}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Query:
    """As Headers, of query parameters: names as they are once percent-decoded, values as they are before."""

    set: Mapping[ParameterName, Text] = Field(default_factory=dict, repr=False)
    remove: tuple[ParameterName, ...] = ()

    def __post_init__(self) -> None:
        for name in self.set:
            if name in self.remove:
                raise ValueError(f"{name} is both set and removed: set alone replaces what came")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Tls:
    """`ca`: trusted instead of the system's. `cert`, `key`: ours; a key within `cert` needs no `key`. PEM files."""

    ca: Annotated[File | None, Nullable] = None
    cert: Annotated[File | None, Nullable] = None
    key: Annotated[File | None, Nullable] = None
    verify: Flag = True

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise ValueError("key needs its cert")
        if self.ca is not None and not self.verify:
            raise ValueError("ca has no use with verify: false")

    @property
    def files(self) -> Mapping[str, Path]:
        """What is to be read, by its key."""
        named = {"ca": self.ca, "cert": self.cert, "key": self.key}
        return {key: path for key, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LiveTls(Tls):
    """Live's files have to be there when the configuration is loaded. A shadow's may come later."""

    ca: Annotated[ReadableFile | None, Nullable] = None
    cert: Annotated[ReadableFile | None, Nullable] = None
    key: Annotated[ReadableFile | None, Nullable] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Respond:
    """A fixed answer: `json` or `text` or neither. Without a `status` it is 200, or 204 where there is no body."""

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
                raise ValueError(f"headers: {name.lower()} is the wire's own, it is written for you")

    def _body(self) -> tuple[bytes, bytes] | None:
        if self.json is not None:
            return orjson.dumps(self.json, default=float), b"application/json"
        if self.text is not None:
            return self.text.encode(), b"text/plain; charset=utf-8"
        return None

    def reply(self) -> tuple[int, Fields, bytes]:
        """Status, header fields without Content-Length, and body, as they go out."""
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
    connect_timeout: PositiveSeconds = 5.0
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
    """Which requests a shadow is not asked after all: those for which any one part of it holds."""

    methods: tuple[Method, ...] = ()
    paths: tuple[PathGlob, ...] = ()
    headers: Mapping[FieldName, HeaderGlob] = Field(default_factory=dict)
    json: Mapping[FieldPointer, JsonGlob] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Match:
    """Which requests a shadow is asked at all. Each part must hold; an empty one but `methods` matches everything."""

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
    """`path`: whole path to whole path. `json`: pointer to the value that takes the place of what is there."""

    path: Mapping[RawPath, RawPath] = Field(default_factory=dict)
    json: Mapping[Pointer, Json] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Budget:
    requests: Annotated[Count | None, Nullable] = None
    duration: Annotated[Seconds | None, Nullable] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Shadow:
    url: Url
    percent: Percent = 100.0
    match: Match = Match()
    connect_timeout: PositiveSeconds = 5.0
    timeout: PositiveSeconds = 30.0
    in_flight: PositiveCount = 64
    lane: Count = 256
    breaker: Breaker = Breaker()
    host: HostHeader = "upstream"
    forward_credentials: Flag = False
    headers: Headers = Headers()
    query: Query = Query()
    rewrite: Rewrite = Rewrite()
    budget: Budget = Budget()
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class UnusableShadow(Shadow):
    """A shadow that the environment does not give what its section takes from there: it is asked nothing.

    What is wanting has its default here; `reason` says what that is, in one line.
    """

    reason: str


UNKNOWN_URL = "https://unknown.invalid"
"""The `url` of a shadow whose own is wanting: a name that nobody can have (RFC 6761 section 6.4)."""


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
    """How much of the log stays: null keeps it for ever."""

    size: Annotated[PositiveBytes | None, Nullable] = 10 << 30
    age: Annotated[PositiveSeconds | None, Nullable] = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Redact:
    """Added to the built-in lists: names with `*` for any characters, and pointers as those of Compare.

    With a `hash_key` a redacted value becomes its keyed hash, equal ones stay equal.
    """

    headers: tuple[FieldPattern, ...] = ()
    query: tuple[ParameterPattern, ...] = ()
    json: tuple[PointerPattern, ...] = ()
    hash_key: Annotated[Annotated[FieldValue, Field(min_length=1)] | None, Nullable] = Field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Log:
    path: LogPath = "shadow-log"
    rotate: Rotate = Rotate()
    compress: Annotated[Literal["zstd", "gzip", "none"], Word] = "zstd"
    keep: Keep = Keep()
    bodies: Annotated[Literal["full", "hash", "none"], Word] = "full"
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

    `prediction` is where the answer itself is; null: the report finds it.
    """

    ignore: tuple[PointerPattern, ...] = ()
    tolerance: Mapping[PointerPattern, Annotated[Tolerance, ToleranceValue]] = Field(default_factory=dict)
    unordered: tuple[PointerPattern, ...] = ()
    prediction: Annotated[FieldPointer | None, Nullable] = None
    online: Flag = True


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Config:
    """The whole of it. Made by `load`, `from_flags` and `from_values`, which raise ConfigError."""

    listen: Listen = TcpAddress("127.0.0.1", 8080)
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

    def __post_init__(self) -> None:
        if self.admin == self.listen and not (isinstance(self.listen, TcpAddress) and self.listen.port == 0):
            raise KeyFault("admin", "must not be where callers connect, its paths would be taken from them")
        if self.admin_token is not None and (fault := token_fault(self.admin, self.admin_token)) is not None:
            raise KeyFault("admin_token", fault)
        if self.live.respond is not None and self.control.percent:
            raise KeyFault("control", "live.respond always says the same, asking it twice tells nothing")
        if self.limits.capture * self.workers > self.limits.memory:
            raise KeyFault(
                "limits",
                f"capture must not be larger than memory / workers, which is {self.limits.memory} / {self.workers}: "
                "the workers share memory out evenly",
            )
        if self.workers > 1 and self.log.path == "-":
            raise KeyFault(
                "workers", "several would write into each other's lines on one standard output, name a log.path"
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and likely not meant, one line each."""
        return tuple(_warnings(self))


def token_fault(admin: TcpAddress | UnixAddress | None, token: str) -> str | None:
    """Why a token cannot guard what listens there, if it cannot."""
    if len(token) >= SHORT_TOKEN or not isinstance(admin, TcpAddress) or admin.is_loopback:
        return None
    return (
        f"is shorter than {SHORT_TOKEN} characters and admin listens beyond loopback, where it could be guessed: "
        "openssl rand -hex 32 makes one"
    )


_WILD = frozenset("*?[")


def _is_written_out(glob: str) -> bool:
    """Whether a glob over a secret is that secret. One with a wildcard says what kind is meant, and seldom which."""
    return not isinstance(glob, FromEnvironment) and not set(glob) & _WILD


def _warnings(config: Config) -> Iterator[str]:
    endpoints: dict[str, Live | Shadow] = {"live": config.live}
    endpoints |= {f"shadows.{name}": shadow for name, shadow in config.shadows.items()}
    written_out = "is a secret written into the file: take it from the environment, ${NAME}"
    for where, endpoint in endpoints.items():
        if not endpoint.tls.verify:
            yield f"{where}.tls.verify is false: whoever is in between can read and answer what is sent there"
        if endpoint.tls != type(endpoint.tls)() and not (endpoint.url or "").startswith("https:"):
            yield f"{where}.tls has no effect: its url is not https"
        for name, value in endpoint.headers.set.items():
            if is_credential_field(name, value) and not isinstance(value, FromEnvironment):
                yield f"{where}.headers.set.{name} {written_out}"
        for name, value in endpoint.query.set.items():
            if is_credential(name, value) and not isinstance(value, FromEnvironment):
                yield f"{where}.query.set.{name} {written_out}"
    if config.log.redact.hash_key is not None and not isinstance(config.log.redact.hash_key, FromEnvironment):
        yield f"log.redact.hash_key {written_out}"
    id_header = config.request_id.header
    if Redaction(headers=frozenset(config.log.redact.headers)).hides_header(id_header.encode()):
        yield f"log.redact.headers covers {id_header}, and the ID is in each record all the same, as its id"
    if config.admin_token is not None:
        if not isinstance(config.admin_token, FromEnvironment):
            yield f"admin_token {written_out}"
        if len(config.admin_token) < SHORT_TOKEN:
            yield f"admin_token is shorter than {SHORT_TOKEN} characters, it can be guessed: openssl rand -hex 32"
        if config.admin is None:
            yield "admin_token has no effect: admin is off"
    for name, shadow in config.shadows.items():
        for place, match in (("match", shadow.match), ("match.not", shadow.match.not_)):
            for header, glob in match.headers.items():
                if is_credential_field(header, glob) and _is_written_out(glob):
                    yield f"shadows.{name}.{place}.headers.{header} {written_out}"
            for pointer, glob in match.json.items():
                if is_credential(pointer.rpartition("/")[2], glob) and _is_written_out(glob):
                    yield f"shadows.{name}.{place}.json.{pointer} {written_out}"
        for pointer, value in shadow.rewrite.json.items():
            literal = isinstance(value, str) and not isinstance(value, FromEnvironment)
            if literal and is_credential(pointer.rpartition("/")[2], value):
                yield f"shadows.{name}.rewrite.json.{pointer} {written_out}"
        if shadow.timeout > config.drain:
            yield f"shadows.{name}.timeout is longer than drain: stopping may cut off an answer that was still in time"
        if shadow.url == config.live.url:
            yield f"shadows.{name}.url is live's own: to measure live's noise, use control.percent"
    if not config.shadows:
        yield "no shadows: requests are forwarded and logged, nothing is compared"
