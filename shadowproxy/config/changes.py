"""Defaults that are not what they once were: what a file that leaves them out gets now, and how to have it as before.

`check` names those that matter for a file, and CHANGELOG.md has each of them with the same line of YAML; a test holds
the two together. A default that changes gets its entry here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shadowproxy.config.models import Config
from shadowproxy.config.values import REPEATABLE

Given = Mapping[str, Any]
"""What a file says, by dotted key: a default matters only where the file leaves it out."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed default.

    `key` is as in docs/configuration.md and `since` the heading in CHANGELOG.md. `old` and `new` are what the key was
    and is; `restore` is the YAML that makes it `old` again, None where nothing does. `means` says what came of it, as
    a sentence after the key. `names` gives the shadows that it matters for, "" where it is no shadow's key.
    """

    key: str
    since: str
    old: str
    new: str
    restore: str | None
    means: str
    names: Callable[[Config, Given], Iterator[str]]

    def told(self, config: Config, given: Given) -> Iterator[str]:
        """A line for each place in a file for which it matters."""
        for name in self.names(config, given):
            before = "nothing restores it" if self.restore is None else f"as before: {_of(self.restore, name)}"
            yield f"{_of(self.key, name)}: {self.means}; {before}"


def _of(text: str, name: str) -> str:
    return text.replace("NAME", name) if name else text


def _methods(config: Config, given: Given) -> Iterator[str]:
    for name, shadow in config.shadows.items():
        # An empty list once meant every method, and earlier examples had one.
        if shadow.match.methods == REPEATABLE and not given.get(f"shadows.{name}.match.methods"):
            yield name


def _control(config: Config, given: Given) -> Iterator[str]:
    if config.control.percent and not given.get("control.methods"):
        yield ""


def _credentials(config: Config, given: Given) -> Iterator[str]:
    for name in config.shadows:
        if f"shadows.{name}.forward_credentials" not in given:
            yield name


def _query(config: Config, given: Given) -> Iterator[str]:
    if "log.redact.query" not in given:
        yield ""


def _timeout(config: Config, given: Given) -> Iterator[str]:
    if config.live.url is not None and not given.get("live.timeout"):
        yield ""


def _retry(config: Config, given: Given) -> Iterator[str]:
    if config.live.url is not None and config.live.retry == "idle":
        yield ""


def _everywhere(config: Config, given: Given) -> Iterator[str]:
    yield ""


def _nowhere(config: Config, given: Given) -> Iterator[str]:
    """It is said elsewhere: by an error, or by another command than `check`."""
    return iter(())


CHANGES: Final = (
    Change(
        key="shadows.NAME.match.methods",
        since="Unreleased",
        old='["*"]',
        new="[GET, HEAD, POST, OPTIONS]",
        restore='shadows: {NAME: {match: {methods: ["*"]}}}',
        means="PUT, PATCH, DELETE and other methods are no longer mirrored unless this names them",
        names=_methods,
    ),
    Change(
        key="control.methods",
        since="Unreleased",
        old='["*"]',
        new="[GET, HEAD, POST, OPTIONS]",
        restore='control: {methods: ["*"]}',
        means="live is no longer asked PUT, PATCH, DELETE and other methods a second time unless this names them",
        names=_control,
    ),
    Change(
        key="shadows.NAME.forward_credentials",
        since="Unreleased",
        old="true",
        new="false",
        restore="shadows: {NAME: {forward_credentials: true}}",
        means="credentials in the query, and those that only their form tells, are held back too",
        names=_credentials,
    ),
    Change(
        key="log.redact.query",
        since="Unreleased",
        old="[key]",
        new="[]",
        restore="log: {redact: {query: [key]}}",
        means="the parameter key is redacted only where its value looks like one",
        names=_query,
    ),
    Change(
        key="replay --method",
        since="Unreleased",
        old="'*'",
        new="GET, HEAD, POST, OPTIONS",
        restore="--method '*'",
        means="replay leaves out requests of other methods and says how many",
        names=_nowhere,
    ),
    Change(
        key="live.timeout",
        since="Unreleased",
        old="60s",
        new="600s",
        restore="live: {timeout: 60s}",
        means="live may be silent for 600 s before a caller gets 504, no longer for 60 s",
        names=_timeout,
    ),
    Change(
        key="live.retry",
        since="Unreleased",
        old="idle, however long live had it",
        new="idle, within 0.1 s",
        restore=None,
        means="a request that live had for longer than 0.1 s is not sent a second time any more",
        names=_retry,
    ),
    Change(
        key="log.redact",
        since="Unreleased",
        old="credentials by their names",
        new="credentials by their names and by what they look like",
        restore=None,
        means="what looks like a credential is redacted too, whatever its name",
        names=_everywhere,
    ),
    Change(
        key="admin_token",
        since="Unreleased",
        old="any length",
        new="16 characters where admin listens beyond loopback",
        restore=None,
        means="a shorter one is an error",
        names=_nowhere,
    ),
)


def changed(config: Config, given: Given) -> list[str]:
    """The changed defaults that matter for a file, one line each."""
    return [line for change in CHANGES for line in change.told(config, given)]
