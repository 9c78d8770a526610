"""Whose turn it is among the addresses of a name: the rules 1 and 3 of dial.py."""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from itertools import count, zip_longest

from shadowproxy.serve.upstreams.names import Address, Addresses

SHUNNED = 30.0  # seconds

_log = logging.getLogger(__name__)


def order(
    addresses: Iterable[Address], last: Mapping[Address, int], shunned: Mapping[Address, float], now: float
) -> list[Address]:
    """The addresses in the order in which to dial them. The families alternate (RFC 8305 section 4).

    `last` has a number for each that was dialled, which grows; `shunned`, until when it has its turn after the others.
    """
    mixed = list(addresses)
    random.shuffle(mixed)
    mixed.sort(key=lambda each: last.get(each, 0))  # stable: those never dialled stay mixed
    well = [each for each in mixed if shunned.get(each, 0.0) <= now]
    ill = [each for each in mixed if shunned.get(each, 0.0) > now]
    return [*_alternate(well), *_alternate(ill)]


def _alternate(addresses: list[Address]) -> list[Address]:
    same = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(same, other) for each in pair if each is not None]


class Turns:
    """What is known of the addresses of `host`: when each was dialled, and which of them failed."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._numbers = count(1)
        self._last: dict[Address, int] = {}
        self._shunned: dict[Address, float] = {}  # until when, by the loop's time
        self._failures: dict[Address, tuple[int, float]] = {}  # since it last accepted; and when the next one counts

    def order(self, addresses: Addresses) -> list[Address]:
        """The addresses in the order in which to dial them. What is known of any other address is forgotten."""
        for gone in {*self._last, *self._shunned, *self._failures}.difference(addresses):
            self._last.pop(gone, None)
            self._shunned.pop(gone, None)
            self._failures.pop(gone, None)
        return order(addresses, self._last, self._shunned, asyncio.get_running_loop().time())

    def note_dialled(self, address: Address) -> None:
        self._last[address] = next(self._numbers)

    def note_failed(self, address: Address, error: str) -> None:
        """Give it its turn after the others for a while. Failures of that while count as one, and are logged as one."""
        now = asyncio.get_running_loop().time()
        self._shunned[address] = now + SHUNNED
        failures, next_at = self._failures.get(address, (0, 0.0))
        if now < next_at:
            return
        failures += 1
        self._failures[address] = (failures, now + SHUNNED)
        if failures & (failures - 1):
            return  # the 1st, 2nd, 4th, 8th ... in a row has a line
        # A server on this machine often listens on one of localhost's two addresses.
        level = logging.DEBUG if ip_address(address[1][0]).is_loopback else logging.WARNING
        shown = _text(address)
        extra = {"event": "address_failed", "host": self._host, "address": shown, "error": error, "count": failures}
        words = "%s, an address of %s, takes no connection (%s; failures in a row: %d): other addresses come first"
        _log.log(level, words, shown, self._host, error, failures, extra=extra)

    def note_accepted(self, address: Address) -> None:
        self._shunned.pop(address, None)
        failures, _ = self._failures.pop(address, (0, 0.0))
        if failures and not ip_address(address[1][0]).is_loopback:
            extra = {"event": "address_recovered", "host": self._host, "address": _text(address), "count": failures}
            _log.info("%s, an address of %s, takes connections again", _text(address), self._host, extra=extra)


def _text(address: Address) -> str:
    host, port = address[1][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
