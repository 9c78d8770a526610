"""The endpoints of the configuration as frozen models: live and the shadows, and what is in their sections."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from shadowproxy.config.readers import REPEATABLE
from shadowproxy.config.values import (
    Amount,
    Count,
    FieldName,
    FieldPointer,
    FieldValue,
    File,
    Flag,
    HeaderGlob,
    HostHeader,
    Json,
    JsonGlob,
    LearntPlace,
    Method,
    Methods,
    Nullable,
    ParameterName,
    PathGlob,
    Percent,
    PercentBelowAll,
    PlaceInto,
    Pointer,
    PositiveCount,
    PositivePercent,
    PositiveSeconds,
    ProxyUrl,
    Ratio,
    RawPath,
    ReadableFile,
    Seconds,
    Share,
    StateValue,
    Text,
    Url,
    Word,
)
from shadowproxy.exchange import Fields
from shadowproxy.stateful import KINDS

STRICT = ConfigDict(extra="forbid")

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)

FRAMING = frozenset({"content-length", "expect"})

OWN_FIELDS = frozenset({"via", "x-shadow-request"})
"""Header fields that only the proxy sets: framing depends on them, and recognising its own requests."""


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
