"""Changed defaults: the old value, the new one, and the YAML that restores the old one.

`check` prints those that matter for a file, and CHANGELOG.md has each with the same line of YAML; a test compares the
two. A default that changes gets its entry here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shadowproxy.addresses import TcpAddress
from shadowproxy.config.models import Config
from shadowproxy.config.readers import REPEATABLE

Given = Mapping[str, Any]
"""The keys that a file itself sets, dotted: a default matters only for a key that is not set."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed default.

    `key` is as in docs/reference/configuration.md, `since` the heading in CHANGELOG.md. `old` and `new` are the two
    defaults; `restore` is the YAML that brings `old` back, None if nothing does. `names` yields the shadows that it
    matters for, "" for a key outside of shadows.
    """

    key: str
    since: str
    old: str
    new: str
    restore: str | None
    names: Callable[[Config, Given], Iterator[str]]

    def lines(self, config: Config, given: Given) -> Iterator[str]:
        """One line for each shadow that it matters for; a single line if that is every one of several shadows."""
        names = list(self.names(config, given))
        if len(names) > 1 and len(names) == len(config.shadows):
            names = ["*"]
        for name in names:
            yield f"{self.key.replace('NAME', name)} was {self.old}"


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
    if given.get("live.retry") == "idle":  # it was written to have requests sent again
        yield ""


def _limit(config: Config, given: Given) -> Iterator[str]:
    if given.get("log.body_limit"):  # it may have been written to have less compared
        yield ""


def _live_age(config: Config, given: Given) -> Iterator[str]:
    if config.live.url is not None and "live.max_age" not in given:
        yield ""


def _shadow_age(config: Config, given: Given) -> Iterator[str]:
    for name in config.shadows:
        if f"shadows.{name}.max_age" not in given:
            yield name


def _memory(config: Config, given: Given) -> Iterator[str]:
    if config.limits.memory == "auto" and "limits.memory" not in given:
        yield ""


def _both_families(config: Config, given: Given) -> Iterator[str]:
    addresses = (*config.listen, config.admin)
    if any(isinstance(each, TcpAddress) and each.is_ipv6 and each.is_wildcard for each in addresses):
        yield ""


def _set_aside(config: Config, given: Given) -> Iterator[str]:
    if config.shadows and "compare.set_aside" not in given:
        yield ""


def _nowhere(config: Config, given: Given) -> Iterator[str]:
    """Not printed by `check`: an error or another command says it, or the file cannot change it."""
    return iter(())


CHANGES: Final = (
    Change(
        key="shadows.NAME.match.methods",
        since="0.2.0",
        old='["*"]',
        new="[GET, HEAD, POST, OPTIONS]",
        restore='shadows: {NAME: {match: {methods: ["*"]}}}',
        names=_methods,
    ),
    Change(
        key="control.methods",
        since="0.2.0",
        old='["*"]',
        new="[GET, HEAD, POST, OPTIONS]",
        restore='control: {methods: ["*"]}',
        names=_control,
    ),
    Change(
        key="shadows.NAME.forward_credentials",
        since="0.2.0",
        old="false, for header fields known by their names alone",
        new="false",
        restore="shadows: {NAME: {forward_credentials: true}}",
        names=_credentials,
    ),
    Change(
        key="log.redact.query",
        since="0.2.0",
        old="[key]",
        new="[]",
        restore="log: {redact: {query: [key]}}",
        names=_query,
    ),
    Change(
        key="replay --method",
        since="0.2.0",
        old="'*'",
        new="GET, HEAD, POST, OPTIONS",
        restore="--method '*'",
        names=_nowhere,
    ),
    Change(
        key="live.timeout",
        since="0.2.0",
        old="60s",
        new="600s",
        restore="live: {timeout: 60s}",
        names=_timeout,
    ),
    Change(
        key="live.max_age",
        since="0.2.0",
        old="null",
        new="60s",
        restore="live: {max_age: null}",
        names=_live_age,
    ),
    Change(
        key="shadows.NAME.max_age",
        since="0.2.0",
        old="null",
        new="60s",
        restore="shadows: {NAME: {max_age: null}}",
        names=_shadow_age,
    ),
    Change(
        key="limits.memory",
        since="0.2.0",
        old="256MiB",
        new="auto",
        restore="limits: {memory: 256MiB}",
        names=_memory,
    ),
    Change(
        key="listen",
        since="0.2.0",
        old="IPv6 alone at [::], and so was admin",
        new="both families at [::]",
        restore=None,
        names=_both_families,
    ),
    Change(
        key="live.retry",
        since="0.2.0",
        old="idle, however long live had it",
        new="idle, for what live had not taken",
        restore=None,
        names=_retry,
    ),
    Change(
        key="log.body_limit",
        since="0.2.0",
        old="a limit of what is compared, too",
        new="a limit of what is written alone",
        restore=None,
        names=_limit,
    ),
    Change(
        key="log.redact",
        since="0.2.0",
        old="credentials by their names",
        new="credentials by their names and by what they look like",
        restore=None,
        names=_nowhere,
    ),
    Change(
        key="compare.set_aside",
        since="0.2.0",
        old="false",
        new="true",
        restore="compare: {set_aside: false}",
        names=_set_aside,
    ),
    Change(
        key="admin_token",
        since="0.2.0",
        old="any length",
        new="16 characters where admin listens beyond loopback",
        restore=None,
        names=_nowhere,
    ),
)


def changed(config: Config, given: Given) -> list[str]:
    """The changed defaults that matter for a file, one line each."""
    return [line for change in CHANGES for line in change.lines(config, given)]
