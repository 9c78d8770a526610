"""What is done a second time, in plain words: `check` and the start say the same."""

from collections.abc import Iterator, Sequence

from shadowproxy.config.models import Config

_CHANGE_NOTHING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 section 9.2.1
_CHANGE = ("PUT", "PATCH", "DELETE")


def repeated(methods: Sequence[str]) -> str:
    """What is done twice by requests of these methods, and which others are not repeated."""
    if "*" in methods:
        return f"repeats requests of every method, and so what a {listed(('POST', *_CHANGE), 'or')} changes"
    changing = [method for method in methods if method not in _CHANGE_NOTHING]
    left = [method for method in _CHANGE if method not in methods]
    words = f"repeats {listed(methods)} requests"
    if changing:
        words += f", and so what a {listed(changing, 'or')} changes"
    return f"{words}; no {listed(left, 'or')}" if left else words


def repeats(config: Config) -> Iterator[tuple[str, Sequence[str], str]]:
    """Who is asked again, with the methods, and the words for it: each shadow, and live itself as the control."""
    for name, shadow in config.shadows.items():
        yield name, shadow.match.methods, f"shadow {name} {repeated(shadow.match.methods)}"
    if config.control.percent:
        methods = config.control.methods
        yield "control", methods, f"control, which is live asked a second time, {repeated(methods)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """One, two and three."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
