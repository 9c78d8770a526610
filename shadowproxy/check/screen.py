"""The findings and the meaning of the configuration, on one screen of 80 columns.

A line that begins with ok, warn or FAIL is a test's result; the others explain the file. Header values, keys and
anything else that may be a secret do not appear.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from textwrap import wrap

from shadowproxy.check import Findings, shadow_section
from shadowproxy.check.finding import Finding, Level
from shadowproxy.check.machine import size
from shadowproxy.config import (
    REPEATABLE,
    BodiesBy,
    Config,
    Live,
    Loaded,
    Match,
    Shadow,
    Unless,
    shown_headers,
    shown_json,
    shown_proxy,
    shown_text,
    warnings_for,
)
from shadowproxy.config.changes import changed
from shadowproxy.config.repeating import repeated
from shadowproxy.serve.policy.ramping import ENOUGH, RampSettings
from shadowproxy.serve.sidecar import specify

WIDTH = 80
_MARKS = {Level.OK: "ok", Level.WARN: "warn", Level.FAIL: "FAIL"}


def lines(config: Config, found: Findings, loaded: Loaded | None = None, strays: Sequence[str] = ()) -> Iterator[str]:
    """The screen, which ends with whether the configuration works here.

    With `loaded`, which says where values are from, the screen says so of addresses and of the log, names the keys that
    something else than the file sets, and the changed defaults that matter. `strays` are further warnings.
    """

    def origin(*key: str) -> str:
        return "" if loaded is None else loaded.origin(*key)

    yield from _titled("listen", ", ".join(map(str, config.listen)), found.of("listen"), origin=origin("listen"))
    if config.listen_tls is not None:
        callers = "" if config.listen_tls.client_ca is None else ", for callers with a certificate"
        yield from _titled("listen_tls", f"{config.listen_tls.cert}{callers}", found.of("listen_tls"))
    admin = "off" if config.admin is None else str(config.admin)
    yield from _titled("admin", admin, found.of("admin"), origin=origin("admin"))
    yield ""
    live = config.live
    if live.url is None:
        yield from _titled("live", "a fixed answer, no system behind it", ())
    else:
        yield from _titled("live", live.url, found.of("live"), *_live(config), origin=origin("live", "url"))
    for name, shadow in config.shadows.items():
        yield ""
        tried, meaning = found.of(shadow_section(name)), _shadow(shadow, config.workers)
        yield from _titled(
            "shadow", f"{name}: {shadow.url}", tried, *meaning, origin=origin("shadows", str(name), "url")
        )
    yield ""
    path = "" if config.log.path == "-" else config.log.path
    yield from _titled("log", path, found.of("log"), *_log(config), origin=origin("log", "path"))
    if config.log.upload.to is not None:
        yield from _titled("upload", shown_text(config.log.upload.to), found.of("upload"), *_upload(config))
    yield ""
    yield from _titled("open files", "", found.of("open files"))
    if found.of("memory"):
        yield ""
        yield from _titled("memory", "", found.of("memory"))
    if found.of("installed"):
        yield ""
        yield from _titled("installed", "", found.of("installed"))
    if loaded is not None and loaded.by:
        yield ""
        for title, words in zip(chain(["set by"], repeat("")), _set(loaded), strict=False):
            yield from _wrapped(f"{title:<12}", words)
    if loaded is not None and (changes := changed(config, loaded.given)):
        yield ""
        yield from _wrapped(f"{'changed':<12}", "if you had an earlier version:")
        for line in changes:
            yield from _wrapped(" " * 12, line)
        yield from _wrapped(" " * 12, "(CHANGELOG.md says how to restore each)")
    warnings = (*warnings_for(config), *strays)
    if warnings:
        yield ""
    for warning in warnings:
        yield from _wrapped(f"{'warning':<12}", warning)
    yield ""
    warned = found.warned + len(warnings)
    if found.failed:
        yield f"NOT READY: {', '.join(found.failed)}"
    else:
        yield f"READY{'' if not warned else ', with 1 warning' if warned == 1 else f', with {warned} warnings'}"


def _set(loaded: Loaded) -> Iterator[str]:
    """What set each key that is not as in the file; never its value, which may be a secret."""
    for key, by in loaded.by.items():
        number = loaded.replaced.get(key)
        yield f"{by.split()[0]}: {key}{'' if number is None else f', over {loaded.file}:{number}'}"


def _titled(title: str, what: str, found: tuple[Finding, ...], *meaning: str, origin: str = "") -> Iterator[str]:
    line = f"{title:<12}{what}".rstrip()
    if origin and len(line) + len(origin) + 3 <= WIDTH:
        yield f"{line} ({origin})"
    else:
        yield line
        if origin:
            yield f"{'':<12}({origin})"
    for each in found:
        yield from _wrapped(f"  {_MARKS[each.level]:<10}", each.words)
    for words in meaning:
        yield from _wrapped(" " * 12, words)


def _wrapped(first: str, words: str) -> list[str]:
    return wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _live(config: Config) -> Iterator[str]:
    live = config.live
    yield "gets every request unchanged, credentials included"
    yield f"a request fails after {_duration(live.timeout)} without a byte from it"
    yield from _edits(live)
    if config.control.percent:
        yield f"gets {config.control.percent:g} % of the mirrored requests a second time (control)"
        yield repeated(config.control.methods)


def _shadow(shadow: Shadow, workers: int) -> Iterator[str]:
    match = shadow.match
    named = () if match.methods == REPEATABLE or "*" in match.methods else match.methods
    conditions = list(_conditions(match, named))
    percent = shadow.first_percent
    share = "no request" if percent == 0 else f"{percent:g} % of requests"
    yield f"gets {share}{', where ' + ', '.join(conditions) if conditions else ''}"
    if (ramp := specify.ramp(shadow)) is not None:
        yield from _ramp(ramp)
    if unless := list(_conditions(match.not_, match.not_.methods)):
        yield f"except where {', or '.join(unless)}"
    yield repeated(match.methods)
    each = f" for each of {workers} workers" if workers > 1 else ""
    yield f"{shadow.in_flight} at once, {shadow.lane} waiting{each}, each {_duration(shadow.timeout)} at most"
    if shadow.budget.requests is not None:
        yield f"at most {shadow.budget.requests} requests"
    if shadow.budget.tokens is not None:
        yield f"at most {shadow.budget.tokens} tokens, as its answers say"
    if shadow.budget.cost is not None:
        yield f"at a cost of at most {shadow.budget.cost:g}, as its answers say"
    if shadow.budget.duration is not None:
        yield f"for {_duration(shadow.budget.duration)}"
    if shadow.forward_credentials:
        yield "callers' credentials are forwarded (forward_credentials: true)"
    else:
        yield "callers' credentials are removed, also from the query"
    yield from _edits(shadow)
    changes = [f"{old} becomes {shown_text(new)}" for old, new in shadow.rewrite.path.items()] + list(
        shadow.rewrite.json
    )
    if changes:
        yield f"rewritten: {', '.join(changes)}"


def _ramp(ramp: RampSettings) -> Iterator[str]:
    steps = ", ".join(f"{each:g}" for each in ramp.steps[1:])
    over, each = _duration(ramp.over), _time(ramp.step_time)
    yield f"this rises to {ramp.to:g} % over {over} by steps of {each} or more: {steps}"
    held_out, errors = f"{ramp.hold_out:g} % that are held out", ramp.shadow_errors
    conditions = []
    if ramp.live_p99_ratio is not None:
        times = f"{ramp.live_p99_ratio:g} times"
        conditions.append(f"live's p99 of mirrored requests is at most {times} that of {held_out}")
    if errors is not None:
        conditions.append(f"at most {100 * errors:g} % of its own requests fail")
    if not conditions:
        yield "whatever happens: it has no conditions"
        return
    yield f"while {' and '.join(conditions)}; else it steps back"
    if ramp.live_p99_ratio is not None:
        first, last = (_needed(ramp, percent) for percent in (ramp.steps[0], ramp.steps[-2]))
        yield f"which takes about {first:,} requests at the first step and {last:,} at the last, or it takes longer"


def _needed(ramp: RampSettings, percent: float) -> int:
    """Requests until each arm has enough."""
    return round(100 * ENOUGH / min(ramp.hold_out, (100 - ramp.hold_out) * percent / 100))


def _time(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def _conditions(match: Match | Unless, methods: Sequence[str]) -> Iterator[str]:
    if methods:
        yield f"the method is {' or '.join(map(shown_text, methods))}"
    if match.paths:
        yield f"the path is {' or '.join(map(shown_text, match.paths))}"
    yield from (f"{header} is {glob}" for header, glob in shown_headers(match.headers).items())
    yield from (f"{pointer} in the JSON is {shown_text(glob)}" for pointer, glob in shown_json(match.json).items())


def _edits(endpoint: Live | Shadow) -> Iterator[str]:
    if endpoint.proxy is not None:
        yield f"through the proxy {shown_proxy(endpoint.proxy)}"
    if endpoint.host != "upstream":
        yield f"Host: {'the one the caller sent' if endpoint.host == 'preserve' else shown_text(endpoint.host)}"
    if endpoint.headers.set:
        yield f"headers set: {', '.join(endpoint.headers.set)}"
    if endpoint.headers.remove:
        yield f"headers removed: {', '.join(endpoint.headers.remove)}"
    if endpoint.query.set:
        yield f"query parameters set: {', '.join(endpoint.query.set)}"
    if endpoint.query.remove:
        yield f"query parameters removed: {', '.join(endpoint.query.remove)}"
    if endpoint.tls.cert is not None:
        yield f"our certificate: {endpoint.tls.cert}"


def _log(config: Config) -> Iterator[str]:
    log = config.log
    match log.bodies:
        case "full":
            yield f"records whole bodies up to {size(log.body_limit)}"
        case "hash":
            yield "records the length and SHA-256 of bodies"
        case "none":
            yield "records the length of bodies"
        case BodiesBy() as by:
            each = ", ".join(
                f"{kind} {getattr(by, kind)}" for kind in ("match", "mismatch", "incomparable", "failed", "alone")
            )
            yield f"records bodies by what became of the exchange: {each}"
    sample = log.sample
    if sample.writes_shares:
        slow = "" if sample.slow is None else f", unless a shadow took {sample.slow:g} times as long as live"
        yield (
            f"writes {100 * sample.match:g} % of the exchanges in which all answers match{slow}, "
            f"and {100 * sample.alone:g} % of those without a shadow; all others are written"
        )
    how = "as a keyed hash" if log.redact.hash_key is not None else "blanked"
    own = [shown_text(each) for each in (*log.redact.headers, *log.redact.query, *log.redact.json)]
    yield f"credentials {how}{', also ' + ', '.join(own) if own else ''}"
    if log.path != "-":
        most = "of any size" if log.keep.size is None else f"up to {size(log.keep.size)}"
        age = "without end" if log.keep.age is None else f"for {_duration(log.keep.age)}"
        yield f"keeps files {most}, {age}"


def _upload(config: Config) -> Iterator[str]:
    beside = ", each with its summary" if config.log.upload.summaries else ""
    yield f"gets closed files{beside}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
