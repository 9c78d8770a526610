"""What makes a sidecar one of several workers."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from shadowproxy.config import Config
from shadowproxy.serve.callers.balance import Board
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.telemetry.operator_log import Telling


@dataclass(frozen=True, slots=True)
class Used:
    """What was used of a shadow's budget before: requests begun, and the seconds left, None where unbounded."""

    begun: int
    left: float | None


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker begins with. `config` is its share of the whole, `number` its own among `workers`, from 0.

    `outputs` are the files that standard error and output are, by the names that they had when all of it began.
    """

    number: int
    workers: int
    config: Config
    telling: Telling
    steering: Steering
    used: Mapping[str, Used]
    outputs: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """What makes a process one of several workers: the socket and the board that all of them have."""

    start: Start
    listening: socket.socket
    board: Board
