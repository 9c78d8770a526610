"""`shadowproxy check`: explains a configuration, and tests whether it works on this machine.

`endpoints.py`, `certificates.py` and `machine.py` run the tests, `screen.py` prints the result. Nothing is written or
changed. Each endpoint is sent one request, or none on demand.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from shadowproxy.check import machine, uploading
from shadowproxy.check.certificates import listen_tls
from shadowproxy.check.endpoints import Probe
from shadowproxy.check.endpoints import examine as endpoint
from shadowproxy.check.finding import Finding, Level, fail
from shadowproxy.config import Config, UnusableShadow

GET = Probe()
WITHIN = 20.0
"""Seconds for all endpoints together, which are tested at once: a name server may hang."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings by section: listen, listen_tls, admin, live, each shadow, log, upload, open files, memory,
    installed.

    Some may have none.
    """

    sections: Mapping[str, tuple[Finding, ...]]

    def of(self, section: str) -> tuple[Finding, ...]:
        return self.sections.get(section, ())

    @property
    def failed(self) -> list[str]:
        """The sections in which something fails."""
        return [name for name, found in self.sections.items() if any(each.level is Level.FAIL for each in found)]

    @property
    def warned(self) -> int:
        return sum(each.level is Level.WARN for found in self.sections.values() for each in found)


def examine(config: Config, probe: Probe | None = GET, within: float = WITHIN) -> Findings:
    """Run all tests. If `probe` is None, no endpoint and no store gets a request.

    Takes at most `within` and a few more seconds.
    """
    found: dict[str, tuple[Finding, ...]] = {}
    for key, finding in machine.addresses(config):
        found[key] = (*found.get(key, ()), finding)
    if config.listen_tls is not None:
        found["listen_tls"] = tuple(listen_tls(config.listen_tls))
    tries: dict[str, Iterator[Finding]] = {}
    if config.live.url is not None:
        tries["live"] = endpoint("live", config.live, probe)
    for name, shadow in config.shadows.items():
        if isinstance(shadow, UnusableShadow):
            found[shadow_section(name)] = (fail(f"cannot be used: {shadow.reason}"),)
        else:
            tries[shadow_section(name)] = endpoint(name, shadow, probe)
    if config.log.upload.to is not None:
        tries["upload"] = uploading.store(config.log.upload.to, asks=probe is not None)
    found |= _all_of(tries, within)
    found["log"] = tuple(machine.log(config.log))
    found["open files"] = (machine.open_files(config),)
    found["memory"] = tuple(machine.memory(config))
    found["installed"] = tuple(machine.installed())
    return Findings(found)


def shadow_section(name: str) -> str:
    return f"shadow {name}"


def _all_of(tries: Mapping[str, Iterator[Finding]], within: float) -> dict[str, tuple[Finding, ...]]:
    """Run all of `tries` at once. Those that take too long are abandoned, in threads that end with the process."""
    found: dict[str, list[Finding]] = {name: [] for name in tries}
    ended: set[str] = set()

    def look(name: str) -> None:
        try:
            for finding in tries[name]:
                found[name].append(finding)
        except Exception as error:  # noqa: BLE001  # a defect must not look like a name server that hangs
            found[name].append(fail(f"a defect stopped this check: {type(error).__name__}: {error}"))
        ended.add(name)

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in tries]
    for thread in threads:
        thread.start()
    deadline = monotonic() + within
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    unended = fail(f"not finished within {within:g} s")
    return {name: (*each, *(() if name in ended else (unended,))) for name, each in found.items()}
