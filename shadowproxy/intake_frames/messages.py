"""The kinds of frames, and what each of them says."""

from typing import Final, NamedTuple

from shadowproxy.exchange import Fields, LiveLeg, Outcome

PROTOCOL: Final = 1

HELLO: Final = 1
BEGIN: Final = 2
END: Final = 3
LOST: Final = 4
CANDIDATE: Final = 5
RELOAD: Final = 6
FLUSH: Final = 7
FLUSHED: Final = 8
CALL: Final = 9
RESULT: Final = 10


class Frame(NamedTuple):
    """A frame as received. `head` is not parsed yet."""

    kind: int
    key: int
    head: bytes
    body: bytes
    rest: bytes


class Malformed(NamedTuple):
    """Why a frame cannot be read, as one line."""

    why: str


class Hello(NamedTuple):
    """What an application says first."""

    protocol: int
    process: int
    version: str


class Welcome(NamedTuple):
    """What a companion answers.

    Attributes:
        capture: how many bytes of a body it copies; an application sends no more of one.
        request_id: the name of the header field that has the caller's request ID, as configured.
        shadows: their names, the candidates' included.
        refused: why the companion serves this application nothing, None if it does.
    """

    protocol: int
    version: str
    capture: int
    request_id: str
    shadows: tuple[str, ...]
    refused: str | None = None


class Begin(NamedTuple):
    """A request that is whole. `body` is a prefix where it is shorter than `body_bytes`.

    Attributes:
        key: the exchange's.
        id: the caller's request ID; None has the companion take the record's.
        record: a UUIDv7; None has the companion make one.
        at_ns: when the request came, in nanoseconds since the Unix epoch.
        age_ms: how long ago that was when the frame was made, in milliseconds.
        unfit: why no shadow can get it: OVERSIZE, OVERLOAD (it could not be copied; or live did not read all of it, and
            then `body` is all that live has read), or None.
        shadows: those of the candidates that it may be sent to; None is none of them. Other shadows get all.
        pickle: the call's arguments for candidates, pickled; empty for requests.
    """

    key: int
    id: str | None
    record: str | None
    at_ns: int
    age_ms: float
    method: str
    target: bytes
    fields: Fields
    body: bytes
    body_bytes: int
    body_sha256: str | None = None
    unfit: Outcome | None = None
    shadows: tuple[str, ...] | None = None
    pickle: bytes = b""


class End(NamedTuple):
    """How live's leg of an exchange ended: a `Reply`, or a `Failure` with the part of a reply that there was."""

    key: int
    live: LiveLeg


class Candidate(NamedTuple):
    """A Python callable as the shadow `name`, which the configuration has as a candidate.

    Attributes:
        thread: it runs in a thread of the application, which gets CALLs for it.
        executable, path, directory, main: of the application's interpreter: `sys.executable`, `sys.path`, the working
            directory, and the file of its main module ("" if it has none).
        pickle: the callable; empty with `thread`.
    """

    name: str
    thread: bool
    executable: str
    path: tuple[str, ...]
    directory: str
    main: str
    pickle: bytes


class Call(NamedTuple):
    """One call for a candidate that runs in the application: `seconds` are left of its deadline."""

    key: int
    name: str
    seconds: float
    pickle: bytes


class Result(NamedTuple):
    """What a candidate in the application returned, as JSON; `failed` says why there is none."""

    key: int
    failed: str | None
    body: bytes
