"""The configuration as frozen models: attribute names are the YAML keys, durations are seconds, sizes are bytes.

docs/reference/configuration.md explains every key. These are pydantic dataclasses, not BaseModels, because a BaseModel
has a method `json`, and `json` is a key here.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from shadowproxy.addresses import TcpAddress, overlap, token_fault
from shadowproxy.config.endpoints import FRAMING, HOP_BY_HOP, OWN_FIELDS, STRICT, Live, Shadow
from shadowproxy.config.readers import LIVE, REPEATABLE
from shadowproxy.config.standing import Verdict
from shadowproxy.config.values import (
    Amount,
    Bytes,
    FieldName,
    FieldPattern,
    FieldValue,
    Flag,
    Listen,
    Listens,
    LogPath,
    Memory,
    Methods,
    Nullable,
    ParameterPattern,
    Percent,
    PointerPattern,
    PositiveBytes,
    PositiveCount,
    PositiveSeconds,
    PositiveShare,
    Prediction,
    Ratio,
    ReadableFile,
    Salt,
    SamplingKey,
    Seconds,
    ShadowName,
    StoreFolder,
    Token,
    ToleranceValue,
    Word,
)
from shadowproxy.credentials import is_credential_header


class KeyFault(ValueError):
    """A conflict between keys. The error names the line of `key`."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


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
class ListenTls:
    """PEM files, for TLS with callers. With `client_ca`, callers need a certificate; `cert` may contain the key."""

    cert: ReadableFile
    key: Annotated[ReadableFile | None, Nullable] = None
    client_ca: Annotated[ReadableFile | None, Nullable] = None


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

    `slow`: an exchange in which a shadow took this many times as long as live is always written; null: without this.
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
