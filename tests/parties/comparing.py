"""The real program between a real server and another one, with what its log and its report say of the two.

`comparing` starts the proxy; ask it through any caller, then `outcome()` stops it and reads both.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties import installed, programs
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Difference, Judgement, Record

SHADOW = "challenger"
DRAIN = 120.0
"""Seconds that the proxy may wait, when it is stopped, for what a slow shadow has still to answer."""
PASSED, FAILED, UNDECIDED = 0, 1, 3
"""Exit statuses of `shadowproxy report`."""


@dataclass(frozen=True)
class Compared:
    """What the log and the report of one run say. `status` is the report's exit status, `shadow` its figures."""

    records: list[Record]
    status: int
    figures: Mapping[str, Any]

    @property
    def shadow(self) -> Mapping[str, Any]:
        figures: Mapping[str, Any] = self.figures["shadows"][SHADOW]
        return figures

    def failed_checks(self) -> dict[str, str]:
        """The checks that failed, each with its reason."""
        return {each["name"]: each["said"] for each in self.shadow["checks"] if each["result"] == "fail"}

    def at(self, path: str) -> list[Record]:
        """The records of requests to `path`."""
        return [each for each in self.records if each.request.path == path]


def judged(entry: Record) -> Judgement:
    """How the shadow's answer was compared. Fails the test where live or the shadow gave none."""
    leg = entry.shadows[SHADOW]
    told = (entry.request.path, entry.live.outcome, leg.outcome)
    assert told == (entry.request.path, Outcome.OK, Outcome.OK), (entry.live.error, leg.error)
    assert leg.judgement is not None
    return leg.judgement


def differing(entry: Record) -> list[str]:
    """The places in which the two answers to one request differ."""
    return sorted(each.path for each in judged(entry).differences)


def assert_same(compared: Compared, count: int) -> None:
    """Of `count` requests, all were answered and compared, all answers are equal, and the report does not fail."""
    assert len(compared.records) == count
    for entry in compared.records:
        judgement = judged(entry)
        assert (judgement.verdict, judgement.differences) == (Verdict.MATCH, ()), told(entry, judgement.differences)
        assert (entry.live.failed, entry.shadows[SHADOW].failed) == (None, None)
    assert not compared.failed_checks()
    assert compared.status in (PASSED, UNDECIDED)


def told(entry: Record, differences: tuple[Difference, ...]) -> str:
    """One exchange for a person who looks for the fault."""
    lines = [f"{entry.request.method} {entry.request.path} {entry.request.body.value!r:.300}"]
    lines += [f"  {each.path} {each.kind}: {each.live!r:.200} beside {each.shadow!r:.200}" for each in differences]
    return "\n".join(
        [*lines, f"  live    {entry.live.body!r:.1500}", f"  shadow  {entry.shadows[SHADOW].body!r:.1500}"]
    )


@dataclass(frozen=True)
class Comparing:
    """A proxy that runs, with a server behind it as live and another as shadow."""

    url: str
    proxy: programs.Proxy

    def outcome(self, *options: str) -> Compared:
        """Stop the proxy and report on its log, with `options` of the command."""
        records = self.proxy.records(DRAIN + programs.STOP_DEADLINE)
        command = [sys.executable, "-m", "shadowproxy", "report", str(self.proxy.log), "--json", *options]
        reported = subprocess.run(
            command, env=installed.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert reported.returncode in (PASSED, FAILED, UNDECIDED), reported.stderr
        return Compared(records, reported.returncode, json.loads(reported.stdout))


@contextlib.contextmanager
def comparing(
    directory: Path, live: str, shadow: str, *, live_options: Mapping[str, Any] | None = None, **top_level: Any
) -> Iterator[Comparing]:
    """The proxy in front of `live`, with every request mirrored to `shadow`, one after the other."""
    with programs.proxy(
        directory, {"url": live, **(live_options or {})}, shadow, drain=f"{DRAIN:g}s", **top_level
    ) as proxy:
        yield Comparing(proxy.url, proxy)
