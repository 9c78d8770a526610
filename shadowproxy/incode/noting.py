"""Calls that note what passes by: an exception in one of them is logged, and reaches neither application nor caller."""

import logging
from collections.abc import Callable
from typing import Any, Final

from shadowproxy.exchange import Fields

_LOG: Final = logging.getLogger("shadowproxy")

LEFT: Final = "the caller left before the answer was complete"
"""Why live's leg did not end well, where the caller did not wait for it."""

_logged = False  # the first is a warning; of the others, which come with every request, only who debugs hears


def note(call: Callable[..., Any], *given: Any) -> bool:
    """Whether `call(*given)` did not raise."""
    try:
        call(*given)
    except Exception as error:  # noqa: BLE001 (rule of all adapters: the application is not told)
        log(error)
        return False
    return True


def log(error: Exception) -> None:
    """Log what an exchange could not be noted for."""
    global _logged
    level = logging.DEBUG if _logged else logging.WARNING
    _logged = True
    _LOG.log(level, "an exchange could not be noted: %s", type(error).__name__, exc_info=error)


def stated_length(fields: Fields) -> int:
    """The length that a message's fields state for its body; 1 if they state none, as there is something."""
    for name, value in fields:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return 1
