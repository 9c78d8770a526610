"""Whether the store that closed segments are sent to can be asked. Nothing is written there."""

from collections.abc import Iterator
from typing import Final

from shadowproxy.check.finding import Finding, fail, ok, warn
from shadowproxy.stores.addresses import address_of
from shadowproxy.stores.faults import NO_BUCKET, fault
from shadowproxy.stores.opening import Patience, store_of

_PATIENCE: Final = Patience(connect=5.0, silence=5.0, whole=10.0, retries=0, retry_for=5.0)
_NO_OBJECT: Final = "shadowproxy-check"
"""What is asked for: no segment has this name, so the store says that it is not there."""


def store(to: str, *, asks: bool) -> Iterator[Finding]:
    """Whether the extra is there and, where it `asks`, the store answers with the credentials that there are."""
    folder = address_of(to)
    fixed, _, _ = folder.key.partition("{")
    above, slash, _ = fixed.rpartition("/")
    address = folder.at(above + slash + _NO_OBJECT)
    try:
        client = store_of(address, _PATIENCE)
    except OSError as error:
        yield fail(str(error.strerror))
        return
    if not asks:
        yield ok("the extra is installed")
        return
    try:
        client.get(address.key)
    except Exception as error:  # noqa: BLE001  # the client's errors have no common base
        yield _said(fault(error, address.shown))
    else:
        yield ok("the store answers")


def _said(error: OSError) -> Finding:
    said = str(error.strerror)
    if isinstance(error, FileNotFoundError) and said != NO_BUCKET:
        return ok("the store answers; the first segment shows whether objects can be put there")
    if isinstance(error, PermissionError) and "403" in said:
        return warn(f"{said}; it says so too of what is not there, unless s3:ListBucket is allowed")
    return fail(said)
