"""Puts an object into a store, whole or not at all; and removes one."""

import errno
from typing import Any, Final

from shadowproxy.stores.addresses import Address
from shadowproxy.stores.faults import fault
from shadowproxy.stores.opening import Patience, store_of

SENDING: Final = Patience(connect=5.0, silence=30.0, whole=600.0, retries=2, retry_for=60.0)
"""`whole` is for a part of 8 MiB."""

_PART: Final = 8 << 20
_AT_ONCE: Final = 2


def put(address: Address, content: Any, size: int, patience: Patience = SENDING) -> str | None:
    """Store an object whole, and have the store confirm its `size` in bytes; gives its tag. Raises OSError.

    `content` is bytes, a path or an open file.
    """
    store = store_of(address, patience)
    try:
        store.put(address.key, content, chunk_size=_PART, max_concurrency=_AT_ONCE)
        about = store.head(address.key)
    except Exception as error:  # noqa: BLE001  # the client's errors have no common base
        raise fault(error, address.shown) from None
    if about["size"] != size:
        raise OSError(errno.EIO, f"the store has {about['size']:,} of its {size:,} bytes", address.shown)
    return about["e_tag"]


def remove(address: Address, patience: Patience = SENDING) -> None:
    """Remove an object; one that is not there is removed. Raises OSError."""
    store = store_of(address, patience)
    try:
        store.delete(address.key)
    except FileNotFoundError:
        return
    except Exception as error:  # noqa: BLE001  # the client's errors have no common base
        raise fault(error, address.shown) from None
