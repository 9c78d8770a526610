"""Which requests a shadow repeats, in words: `check` prints them, and `serve` logs them when it starts."""

from collections.abc import Iterator, Sequence

from shadowproxy.config.models import Config

_CHANGE_NOTHING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 section 9.2.1
_CHANGE = ("PUT", "PATCH", "DELETE")


def repeated(methods: Sequence[str]) -> str:
    """The repeated methods, the changes that are made again by them, and the methods that are not repeated."""
    if "*" in methods:
        return f"repeats every request, so changes by {listed(('POST', *_CHANGE))} are made again"
    changing = [method for method in methods if method not in _CHANGE_NOTHING]
    left = [method for method in _CHANGE if method not in methods]
    words = f"repeats {listed(methods)} requests"
    if changing:
        words += f", so changes by {listed(changing)} are made again"
    return f"{words}; not {listed(left, 'or')}" if left else words


def repeats(config: Config) -> Iterator[tuple[str, Sequence[str], str]]:
    """For each shadow, and for live as the control: its name, its methods, and the words."""
    for name, shadow in config.shadows.items():
        yield name, shadow.match.methods, f"shadow {name} {repeated(shadow.match.methods)}"
    if config.control.percent:
        methods = config.control.methods
        yield "control", methods, f"control (live a second time) {repeated(methods)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """One, two and three."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
