"""The IDs of requests: the request ID that callers see, the record ID that is unique, and trace and span IDs."""

import hashlib
import os
import random
import re
import time

_SOUND = re.compile(rb"[\x21-\x7e]{1,128}")

# Seeded by the operating system once: a system call for each ID would cost more, and a record's ID is no secret. A
# forked process must not continue its parent's numbers.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


_VERSION_7 = 0x7 << 76 | 0b10 << 62
_CHANCE = ~(0xF << 76 | 0b11 << 62)


def valid_request_id(value: bytes | None) -> str | None:
    """The caller's request ID if it is safe in a log and a header, else None: 1 to 128 visible ASCII characters."""
    if value is None or not _SOUND.fullmatch(value):
        return None
    return value.decode("ascii")


def uuid7(at_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 section 5.7) for now, or for `at_ns` after the epoch. It sorts by time, to the millisecond."""
    milliseconds = (time.time_ns() if at_ns is None else at_ns) // 1_000_000
    value = (milliseconds << 80 | _random.getrandbits(80)) & _CHANCE | _VERSION_7
    digits = value.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def span_id(record: str, leg: str) -> str:
    """The ID of the span of a record's leg, 16 hexadecimal digits.

    It is made from the record's ID. So the code that sends it to a shadow and the code that sends it to a collector
    arrive at the same ID without sharing state.
    """
    return _digits(f"{record}/{leg}", 8)


def trace_id(record: str) -> str:
    """The trace ID of a request that carries no trace, 32 hexadecimal digits."""
    return _digits(record, 16)


def _digits(text: str, size: int) -> str:
    # A hash, because samplers treat the last digits of a trace ID as random: some digits of a UUID are fixed.
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
