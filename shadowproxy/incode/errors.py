"""The exceptions that an application sees of a Shadow."""


class ShadowError(Exception):
    """A Shadow, or a function that it is to mirror, cannot be set up. `str()` is one line for each problem."""


class Mismatch(AssertionError):
    """A candidate's result differs from live's; raised with `raise_on_mismatch=True` alone.

    Attributes:
        function: the module and name of live's function.
        shadow: the candidate's name.
        differences: where the two differ, at most 100 places, as `shadowproxy.record.Difference`.
    """

    def __init__(self, function: str, shadow: str, lines: list[str], differences: tuple[object, ...]) -> None:
        super().__init__("\n".join([f"{function}: the result of {shadow} differs from live's", *lines]))
        self.function = function
        self.shadow = shadow
        self.differences = differences
