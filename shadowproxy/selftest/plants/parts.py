"""Faults in one part of the requests only."""

from typing import Final

from shadowproxy.selftest.plants.fault import Fault, Known, judged
from shadowproxy.selftest.plants.no_answer import FAULTS as ABSENT
from shadowproxy.selftest.plants.order import FAULTS as ORDER
from shadowproxy.selftest.plants.service import FAULTS as SERVICE


def _sliced(known: Known) -> bool:
    return known.slices


def _judged_and_sliced(known: Known) -> bool:
    return known.slices and judged(known)


def _named(faults: tuple[Fault, ...], name: str) -> Fault:
    return next(fault for fault in faults if fault.name == name)


FAULTS: Final = (
    Fault(
        "the answer is missing in one part of the requests only",
        "slices",
        _judged_and_sliced,
        _named(ABSENT, "the answer is missing").plant,
        part="slice",
    ),
    Fault(
        "status 500 in one part of the requests only",
        "slices",
        _sliced,
        _named(SERVICE, "status 500").plant,
        part="slice",
    ),
    Fault(
        "answers shuffled in one part of the requests only",
        "unexplained",
        _judged_and_sliced,
        _named(ORDER, "answers shuffled").plant,
        part="slice",
        unseen_by_default="--labels, or a lower `unexplained` in a gates file",
    ),
)
