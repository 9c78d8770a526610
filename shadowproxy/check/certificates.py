"""How long certificates are valid: those in files, and the one that a server presents.

`ssl` gives the dates of a certificate only if it is trusted, but untrusted ones matter most here. So the two dates are
read from the DER form (RFC 5280 section 4.1), and nothing else of it is.
"""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shadowproxy.check.finding import Finding, fail, ok, warn
from shadowproxy.config import ListenTls
from shadowproxy.serve.sidecar import specify
from shadowproxy.serve.sidecar.contexts import file_fault, listen_tls_of

SOON = timedelta(days=30)

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERAL_TIME = 0x30, 0xA0, 0x17, 0x18


@dataclass(frozen=True, slots=True)
class Validity:
    """The period in which a certificate is valid."""

    begins: datetime
    ends: datetime


def validity(der: bytes) -> Validity:
    """Raises ValueError if `der` is not a certificate."""
    try:
        _, whole, _ = _element(der, 0)
        _, signed, _ = _element(whole, 0)
        tag, _, at = _element(signed, 0)
        if tag == _VERSION:
            _, _, at = _element(signed, at)  # the serial number
        for _ in range(2):  # the algorithm, the issuer
            _, _, at = _element(signed, at)
        tag, dates, _ = _element(signed, at)
        begins_tag, begins, at = _element(dates, 0)
        ends_tag, ends, _ = _element(dates, at)
    except IndexError:
        raise ValueError("is cut off") from None
    if tag != _SEQUENCE:
        raise ValueError("has no dates where they belong")
    return Validity(_moment(begins_tag, begins), _moment(ends_tag, ends))


def _element(der: bytes, at: int) -> tuple[int, bytes, int]:
    """The tag and the content of the element at `at`, and where the next one begins. Raises IndexError."""
    tag, length = der[at], der[at + 1]
    at += 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[at : at + size], "big")
        at += size
    if at + length > len(der):
        raise IndexError
    return tag, der[at : at + length], at + length


def _moment(tag: int, raw: bytes) -> datetime:
    text = raw.decode("ascii")
    if tag == _UTC_TIME:  # a year of two digits: from 50 on it belongs to the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERAL_TIME:
        raise ValueError("has a date of an unknown form")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def dated(whose: str, der: bytes, now: datetime) -> Finding:
    """The finding on a certificate's dates."""
    try:
        found = validity(der)
    except ValueError as error:
        return warn(f"{whose} cannot be read: it {error}")
    day = f"{found.ends:%Y-%m-%d}"
    if now < found.begins:
        return fail(f"{whose} is not valid before {found.begins:%Y-%m-%d %H:%M} UTC")
    if now >= found.ends:
        return fail(f"{whose} expired on {day}, {_days(now - found.ends)} ago")
    left = found.ends - now
    words = f"{whose} is valid until {day}, {_days(left)}"
    return warn(f"{words} only: renew it") if left < SOON else ok(words)


def in_file(whose: str, file: Path, now: datetime) -> Iterator[Finding]:
    """The finding on a PEM file: on its certificate, or on the worst of several."""
    try:
        blocks = _PEM.findall(file.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        yield fail(f"{whose} {file} cannot be read: {error.strerror}")
        return
    try:
        found = [dated(f"{whose} {file}", ssl.PEM_cert_to_DER_cert(block), now) for block in blocks]
    except ValueError as error:
        yield fail(f"{whose} {file} is damaged: {error}")
        return
    if not found:
        yield fail(f"{whose} {file} holds no certificate in PEM form")
        return
    worst = max(found, key=lambda each: each.level)
    if len(found) > 1 and len({each.level for each in found}) > 1:
        # A bundle may hold expired authorities beside the one that matters: the handshake shows if that one is good.
        yield warn(f"one of {len(found)} certificates: {worst.words}")
    else:
        yield worst


def listen_tls(section: ListenTls) -> Iterator[Finding]:
    """Whether callers can be served with these files, and for how long."""
    now = datetime.now(UTC)
    yield from in_file("the certificate", section.cert, now)
    if section.client_ca is not None:
        yield from in_file("the authority", section.client_ca, now)
    try:
        listen_tls_of(specify.listen_tls(section))
    except (OSError, ssl.SSLError) as error:
        yield fail(f"the files cannot be used: {file_fault(error)}")


def _days(span: timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days:,} days"
