"""The objects below an address: of a folder, of a pattern, or the one that it names."""

import fnmatch
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from shadowproxy.stores.addresses import Address
from shadowproxy.stores.faults import fault
from shadowproxy.stores.opening import Patience, store_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from shadowproxy.stores.opening import Store

_MAGIC: Final = re.compile(r"[*?\[]")
_DEEP: Final = "**"


class Found(NamedTuple):
    """An object, with its bytes, tag and time of writing; or a folder, whose key ends with "/" or is empty."""

    address: Address
    size: int | None = None
    tag: str | None = None
    modified: float | None = None

    @property
    def is_folder(self) -> bool:
        return self.address.kind != "http" and (not self.address.key or self.address.key.endswith("/"))


def find(address: Address, patience: Patience | None = None) -> list[Found]:
    """What the address stands for, by name: one object, one folder, or all of either that a pattern matches.

    Nothing, if there is no such thing. A folder exists only by the objects in it. Raises OSError if the store cannot be
    asked.
    """
    if address.kind == "http":
        return [Found(address)]
    store = store_of(address, patience)
    try:
        if address.is_pattern:
            parts = address.key.split("/")
            folders_only = parts[-1] == ""
            matched = _matching(store, "", parts[:-1] if folders_only else parts)
            by_key = dict(matched)
            keys = sorted(key for key in by_key if key.endswith("/") or not folders_only)
            return [_found(address, key, by_key[key]) for key in keys]
        if address.key and not address.key.endswith("/"):
            try:
                return [_found(address, address.key, store.head(address.key))]
            except FileNotFoundError:
                pass
        folder = address.key.rstrip("/") + "/" if address.key.strip("/") else ""
        inside = store.list_with_delimiter(folder.rstrip("/") or None)
        if not inside["objects"] and not inside["common_prefixes"]:
            return []
        return [Found(address.at(folder))]
    except Exception as error:  # noqa: BLE001  # the client's errors have no common base
        raise fault(error, address.shown) from None


def inside(folder: Address, patience: Patience | None = None) -> list[Found]:
    """The objects and folders right in a folder, by name. Raises OSError."""
    store = store_of(folder, patience)
    try:
        listed = store.list_with_delimiter(folder.key.rstrip("/") or None)
    except Exception as error:  # noqa: BLE001  # the client's errors have no common base
        raise fault(error, folder.shown) from None
    found = [_found(folder, each["path"], each) for each in listed["objects"]]
    found += [Found(folder.at(each.rstrip("/") + "/")) for each in listed["common_prefixes"]]
    return sorted(found, key=lambda each: each.address.key)


def _found(near: Address, key: str, about: "ObjectMeta | None") -> Found:
    if about is None:
        return Found(near.at(key))
    return Found(near.at(key), about["size"], about["e_tag"], about["last_modified"].timestamp())


def _matching(store: "Store", folder: str, parts: list[str]) -> Iterator[tuple[str, "ObjectMeta | None"]]:
    """The keys below a folder that the parts of a pattern match, folders with a slash at their end."""
    literal = 0
    while literal < len(parts) - 1 and not _MAGIC.search(parts[literal]):
        literal += 1
    folder = "".join((folder, *(f"{part}/" for part in parts[:literal])))
    part, rest = parts[literal], parts[literal + 1 :]
    if part == _DEEP:
        yield from _matching(store, folder, rest or ["*"])
    listed = store.list_with_delimiter(folder.rstrip("/") or None)
    for key in listed["common_prefixes"]:
        below = key.rstrip("/") + "/"
        name = below[len(folder) : -1]
        if part == _DEEP:
            if not name.startswith("."):
                yield from _matching(store, below, parts[literal:])
        elif _accepts(part, name):
            if rest:
                yield from _matching(store, below, rest)
            else:
                yield below, None
    if not rest and part != _DEEP:
        for each in listed["objects"]:
            if _accepts(part, each["path"][len(folder) :]):
                yield each["path"], each


def _accepts(part: str, name: str) -> bool:
    """Whether one part of a pattern matches a name: as in a shell, `*` matches no dot at the beginning."""
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, part)
