"""Where the head of a response ends, and what it says. Pure; the rules are framing.py's, with one addition.

Some small servers end all lines of a head with a bare LF. That is read, as long as no CR is in the head: then there is
one place where it can end. Lines of both kinds are rejected. Chunks are always read strictly. The connection is not
used again: a server that writes so is not trusted with where the next message begins.
"""

from shadowproxy.serve.http1 import foreign, framing
from shadowproxy.serve.http1.framing import UNFINISHED_LINES, FramingError, ResponseHead

MAX_RESPONSE_HEAD = 64 * 1024

_H = 72  # what every response begins with, as a byte


def take_response_head(
    data: bytes, method: str, checked: int = 0, upgrade: bytes = b""
) -> tuple[ResponseHead, bytes] | None:
    """The head of the response to a request with `method` and what follows it; None if it is not whole yet.

    The first `checked` bytes were there before. `upgrade` is as for parse_response_head. Raises FramingError.
    """
    if data and data[0] != _H:
        raise FramingError(502, foreign.name_of_response(data) or "malformed status line")
    line_end = data.find(b"\n", 0, MAX_RESPONSE_HEAD)
    if line_end > 0 and data[line_end - 1] != 13:
        return _take_bare_lines(data, method, checked, line_end, upgrade)
    end = data.find(b"\r\n\r\n", max(0, checked - 3), MAX_RESPONSE_HEAD + 4)
    if end >= 0:
        return framing.parse_response_head(data[:end], method, upgrade), data[end + 4 :]
    if len(data) > MAX_RESPONSE_HEAD:
        raise FramingError(502, f"a head of more than {MAX_RESPONSE_HEAD} bytes")
    framing.check_unfinished_head(data, request=False, checked=checked)
    return None


def _take_bare_lines(
    data: bytes, method: str, checked: int, line_end: int, upgrade: bytes
) -> tuple[ResponseHead, bytes] | None:
    """The same, of a head whose first line ends with a bare LF."""
    end = data.find(b"\n\n", max(0, checked - 1), MAX_RESPONSE_HEAD + 2)
    unchecked = data[checked:] if end < 0 else data[checked:end]
    if b"\r" in unchecked:
        raise FramingError(502, "a head with lines that end with a bare LF and lines that end with CRLF")
    if end >= 0:
        head = framing.parse_response_head(data[:end].replace(b"\n", b"\r\n"), method, upgrade)
        once = ResponseHead(head.status, head.fields, head.names, head.framing, keep_alive=False)
        return once, data[end + 2 :]
    if len(data) > MAX_RESPONSE_HEAD:
        raise FramingError(502, f"a head of more than {MAX_RESPONSE_HEAD} bytes")
    if not UNFINISHED_LINES.fullmatch(unchecked.replace(b"\n", b"\r\n")):
        raise FramingError(502, "a control byte in the head")
    if checked <= line_end:
        framing.check_unfinished_head(data[:line_end] + b"\r\n", request=False)
    return None
