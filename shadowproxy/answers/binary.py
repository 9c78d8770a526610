"""Which format of bytes a body is in, and its content: by a field that belongs to one, its first bytes, its type.

| Format | known by |
|---|---|
| Open Inference tensors | `Inference-Header-Content-Length` |
| npy, npz, Arrow files, Parquet, event frames | their first bytes, whatever the Content-Type |
| MessagePack, Arrow streams | the Content-Type; MessagePack also where there is none that says anything |
| multipart | the Content-Type, or a first and a last line that delimit parts |
| images, sounds and other files | their first bytes |

Where a body is nothing of this and its Content-Type names such a format, it is `broken`.
"""

from collections.abc import Callable
from typing import Any, Final

from shadowproxy.answers.contents import INNER_TYPE, Content, Fields, field_value, media_type
from shadowproxy.answers.formats import columns, event_frames, media, message_pack, multipart, npy, npz, open_inference
from shadowproxy.answers.formats.refusals import FormatError, Unsupported
from shadowproxy.answers.leaves import blob_of
from shadowproxy.answers.sse import Event
from shadowproxy.answers.streams import Stream, of_events
from shadowproxy.budget import Budget

Inner = Callable[[bytes, Fields, Budget, int], Content]
"""Reads the bytes that stand in a body."""

_DEEPEST: Final = 3  # bodies within bodies
_SAYS_NOTHING: Final = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/binary"})
_NAMES: Final[tuple[tuple[frozenset[str], str], ...]] = (
    (npy.MEDIA, "npy"),
    (npz.MEDIA, "npz"),
    (message_pack.MEDIA, "msgpack"),
    (event_frames.MEDIA, "event frames"),
    (columns.PARQUET, "parquet"),
    (frozenset({columns.ARROW_FILE, columns.ARROW_STREAM}), "arrow"),
)


def names_format(named: str) -> str | None:
    """The format that a media type names, if it is one of bytes."""
    if named.startswith("multipart/"):
        return "multipart"
    return next((name for types, name in _NAMES if named in types), None)


def may_be_format(text: str, content_type: str, headers: Fields) -> bool:
    """Whether a body that is a text may be in one of these formats all the same."""
    return (
        open_inference.FIELD in headers
        or names_format(media_type(content_type)) is not None
        or text.startswith(("--", "\0\0", "PAR1", "ARROW1"))
        or "\0" in text[:_LOOKED_AT]
    )


_LOOKED_AT: Final = 64  # characters


def of_format(raw: bytes, named: str, headers: Fields, budget: Budget, depth: int, inner: Inner) -> Content | None:
    """The content of a body in one of the formats; None if it is in none of them."""
    kind = media_type(named)
    name = ""
    try:
        if length := field_value(headers, open_inference.FIELD):
            name = "open inference"
            return _tree(open_inference.read(raw, length, budget), name)
        if raw.startswith(npy.MAGIC):
            name = "npy"
            return _tree(npy.read(raw, budget), name)
        if npz.begins_with_array(raw) or (kind in npz.MEDIA and raw.startswith(npz.MAGIC)):
            name = "npz"
            return _tree(npz.read(raw, budget), name)
        if event_frames.begins_with_frame(raw):
            name = "event frames"
            return _of_frames(raw, headers, budget, depth, inner)
        if columns.begins_as_columns(raw) or (kind == columns.ARROW_STREAM and raw.startswith(_CONTINUES)):
            name = columns.format_of(raw, kind)
            return _tree(columns.read(raw, kind, budget), name)
        if kind in message_pack.MEDIA or (kind in _SAYS_NOTHING and message_pack.opens_container(raw)):
            name = "msgpack" if kind in message_pack.MEDIA else ""
            return _tree(message_pack.read(raw, budget), "msgpack")
        boundary = multipart.boundary_of(named, raw)
        if boundary is not None and depth < _DEEPEST:
            name = "multipart"
            return _of_parts(raw, boundary, kind, budget, depth, inner)
    except FormatError as why:
        if isinstance(why, Unsupported):
            return Content("bytes", raw, format=name, warnings=(f"{name}: {why}",)) if name else None
        if name and not _is_text_instead(raw, name, kind):
            return Content("bytes", raw, format=name, broken=f"not {name}: {why}")
    return None


_CONTINUES: Final = b"\xff\xff\xff\xff"


def _is_text_instead(raw: bytes, name: str, named: str) -> bool:
    """Whether a body that is not what its Content-Type names is a text: an error message, often."""
    return name == "msgpack" and named in message_pack.MEDIA and raw[:1] in (b"{", b"[", b'"', b"<") and raw.isascii()


def of_media(raw: bytes, named: str, budget: Budget) -> Content:
    """The content of bytes that no format reads: compared by being the same."""
    budget.spend_bytes(len(raw))
    kind = media_type(named)
    known = media.media_of(raw, kind)
    if known is not None:
        warnings = () if media.agrees(known, kind) else (f"named {kind}, and is {known}",)
        return Content("bytes", raw, format=known, warnings=warnings)
    name = names_format(kind)
    if name is not None:
        return Content("bytes", raw, format=name, broken=f"not {name}: it does not begin as one")
    warnings = ("named JSON, and is no text",) if "json" in kind else ()
    return Content("bytes", raw, format=kind if media.names_media(kind) else "bytes", warnings=warnings)


def _tree(value: Any, name: str) -> Content:
    return Content("json", value, True, format=name, leaves=True)


def _of_frames(raw: bytes, headers: Fields, budget: Budget, depth: int, inner: Inner) -> Content:
    """The content of event frames: what their parts make together, or the list of what they say."""
    frames, cut = event_frames.read(raw, budget)
    error = event_frames.failure_in(frames, budget)
    if error is None and cut is not None:
        error = {"message": cut}
    body = event_frames.body_in(frames)
    if body is not None and depth < _DEEPEST:
        budget.hold(len(body))
        said = inner(body, {"content-type": field_value(headers, INNER_TYPE)}, budget, depth + 1)
    else:
        made = of_events([Event(name, value) for name, value in event_frames.events_in(frames, budget)])
        said = Content("json", made.value, stream=made)
    stream = said.stream or Stream("events", said.value, True)
    if error is not None:
        stream = stream._replace(ended=False, failed=True, error=error)
    return said._replace(stream=stream, format="event frames", broken=said.broken if error is None else None)


def _of_parts(raw: bytes, boundary: bytes, named: str, budget: Budget, depth: int, inner: Inner) -> Content:
    """The content of parts: by name where all have one, else a list."""
    parts, cut = multipart.read(raw, boundary, budget)
    values = [_of_part(part, budget, depth, inner) for part in parts]
    warnings = tuple(
        [f"part {at + 1}: {each}" for at, said in enumerate(values) for each in _wrong_in(said)][:_MOST_WARNINGS]
    )
    made: Any = [_value_in(part, said) for part, said in zip(parts, values, strict=True)]
    if named == "multipart/form-data" or (parts and all(part.name for part in parts)):
        form: dict[str, list[Any]] = {}
        for part, value in zip(parts, made, strict=True):
            form.setdefault(part.name, []).append(value)
        made = {name: each[0] if len(each) == 1 else each for name, each in form.items()}
    broken = None if cut is None else f"not multipart: {cut}"
    return Content("json", made, True, format="multipart", leaves=True, broken=broken, warnings=warnings)


_MOST_WARNINGS: Final = 10


def _of_part(part: multipart.Part, budget: Budget, depth: int, inner: Inner) -> Content:
    return inner(part.raw, part.headers, budget, depth + 1)


def _wrong_in(said: Content) -> tuple[str, ...]:
    return said.warnings if said.broken is None else (said.broken, *said.warnings)


def _value_in(part: multipart.Part, said: Content) -> Any:
    if said.kind == "bytes":
        return blob_of(
            part.raw, said.format if "/" in said.format else media_type(part.headers.get("content-type", ""))
        )
    return "" if said.kind == "empty" else said.value
