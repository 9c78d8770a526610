"""The data that makes a sidecar one of several workers."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from shadowproxy.serve.callers.balance import Board
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.telemetry.operator_log import OperatorLogSettings


@dataclass(frozen=True, slots=True)
class BudgetUsed:
    """The used part of a shadow's budget: requests begun, and the seconds left, None where unbounded."""

    begun: int
    left: float | None


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """The first message to a worker. `specs` are its share of the whole; `number` counts the `workers` from 0.

    `outputs` are the names of the files behind standard error and output, as they were when the program started.
    """

    number: int
    workers: int
    specs: Specs
    log_settings: OperatorLogSettings
    steering: Steering
    used: Mapping[str, BudgetUsed]
    outputs: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """A worker's start message, and the socket and the board that all workers share."""

    start: WorkerStart
    listening: socket.socket
    board: Board
