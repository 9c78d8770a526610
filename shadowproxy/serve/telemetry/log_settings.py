"""What the operator's log contains, and in which form. Apart from the log: what reads the command line logs nothing."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "text"]


@dataclass(frozen=True, slots=True)
class OperatorLogSettings:
    """What is logged, and how: `auto` is text on a terminal and JSON elsewhere. `access`: a line for each request."""

    level: Level = "info"
    form: Form = "auto"
    access: bool = False
