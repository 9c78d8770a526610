"""The names of requests: the request ID that callers see, and the record ID that is unique."""

import hashlib
import os
import random
import re
import time

_SOUND = re.compile(rb"[\x21-\x7e]{1,128}")

# Seeded by the operating system, once: asking it for each ID is a system call, and a record's ID is no secret. A fork
# would go on with its parent's numbers.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


_VERSION_7 = 0x7 << 76 | 0b10 << 62
_CHANCE = ~(0xF << 76 | 0b11 << 62)


def valid_request_id(value: bytes | None) -> str | None:
    """The caller's request ID, if it can stand in a log and a header: 1 to 128 visible ASCII characters."""
    if value is None or not _SOUND.fullmatch(value):
        return None
    return value.decode("ascii")


def uuid7(at_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 section 5.7) of now, or of `at_ns` after the epoch: sorts by time, to the millisecond."""
    milliseconds = (time.time_ns() if at_ns is None else at_ns) // 1_000_000
    value = (milliseconds << 80 | _random.getrandbits(80)) & _CHANCE | _VERSION_7
    digits = value.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def span_id(record: str, leg: str) -> str:
    """The ID of the span in which a record's leg is asked, 16 hexadecimal digits.

    Made from the record's own ID, so that who sends it to a shadow and who tells a collector of it need not meet.
    """
    return _digits(f"{record}/{leg}", 8)


def trace_id(record: str) -> str:
    """The ID of the trace of a request that came with none, 32 hexadecimal digits."""
    return _digits(record, 16)


def _digits(text: str, size: int) -> str:
    # A hash, as samplers take the last digits of a trace ID for chance: those of a UUID are in part fixed.
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
