"""How the recorder makes a record's line under one configuration: judged, redacted, encoded, traced."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from shadowproxy.answers import About
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.compare.judge.verdict import judge, judge_values
from shadowproxy.exchange import LIVE, Exchange, Verdict
from shadowproxy.record import Judgement, RecordedLeg
from shadowproxy.recorder.bodies import read_body
from shadowproxy.recorder.heads import read_head
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.recorder.said import said_by
from shadowproxy.recorder.sample import Sample
from shadowproxy.redaction import Redaction
from shadowproxy.serve.journal.queue import Encode
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.sidecar.specs import CALLABLE, JournalSpec, RecorderSpec
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.telemetry import generative
from shadowproxy.serve.telemetry.generative import Attributes
from shadowproxy.serve.telemetry.spans import Destination
from shadowproxy.serve.upload.job import Job

Seen: TypeAlias = Callable[[bytes, Mapping[str, Verdict | None]], object]
Trace: TypeAlias = Callable[
    [Exchange, Mapping[str, Verdict | None], Mapping[str, Destination], Mapping[str, Attributes]], object
]


def journal_settings(spec: JournalSpec) -> Settings:
    return Settings(
        rotate_size=spec.rotate_size,
        rotate_every=spec.rotate_every,
        compress=spec.compress,
        keep_size=spec.keep_size,
        keep_age=spec.keep_age,
        queue_bytes=spec.queue_bytes,
        uploads=spec.upload is not None,
    )


def upload_job(spec: RecorderSpec) -> Job | None:
    """Where closed segments are sent, and by which rules their summaries are made; None: nowhere."""
    journal = spec.journal
    if journal.upload is None:
        return None
    return Job(
        directory=str(Path(journal.path).absolute()),
        to=journal.upload,
        summaries=journal.summaries,
        compress=journal.compress,
        rules={
            "ignore": list(spec.ignore),
            "tolerance": {pointer: list(bounds) for pointer, bounds in spec.tolerance.items()},
            "unordered": list(spec.unordered),
            "set_aside": spec.set_aside,
            "predictions": {name: list(places) for name, places in spec.predictions.items()},
        },
        fields=((journal.prediction, journal.prediction),) if journal.prediction else (),
    )


def policy(spec: RecorderSpec) -> Policy:
    """How exchanges are recorded: bodies and redaction."""
    redaction = Redaction(
        headers=frozenset(spec.redact_headers),
        query=frozenset(spec.redact_query),
        json=spec.redact_json,
        hash_key=spec.hash_key.encode() if spec.hash_key else None,
    )
    memory = spec.journal.queue_bytes // 2  # of limits.memory
    sample = None if spec.sample is None else Sample(*spec.sample)
    return Policy(spec.bodies, spec.body_limit, redaction, spec.own_secrets, spec.bodies_by, sample, memory=memory)


def rules(spec: RecorderSpec) -> Rules:
    return Rules(
        ignore=spec.ignore,
        tolerance={pointer: Tolerance(abs=bounds[0], rel=bounds[1]) for pointer, bounds in spec.tolerance.items()},
        unordered=spec.unordered,
        set_aside=spec.set_aside,
        predictions={name: (live, shadow) for name, (live, shadow) in spec.predictions.items()},
    )


def standing(spec: RecorderSpec, began: float) -> StandingSettings | None:
    """How the records of this generation are counted for the standing verdict; None: they are not.

    `began` is when the program did: a callable of an application may be another one at its next start.
    """
    section = spec.standing
    if section is None:
        return None
    named = spec.journal.prediction
    return StandingSettings(
        window=section.window,
        cpu=section.cpu,
        gates=section.gates,
        rules=rules(spec),
        fields=((named, named),) if named else (),
        live=section.live,
        shadows={name: f"{id} {began}" if id.startswith(CALLABLE) else id for name, id in section.shadows.items()},
    )


def encoder(
    spec: RecorderSpec,
    writer: str,
    *,
    seen: Seen,
    trace: Trace | None = None,
) -> Encode:
    """`writer` is the name in the records of the process that took the requests.

    `seen` is called with each record's line and its shadows' verdicts (None if nothing was compared), `trace` with the
    exchange, the verdicts, each leg's destination, and what is known of calls of language models: both by the thread
    that encodes.
    """
    how, by = policy(spec), rules(spec)
    destinations = {
        name: Destination.of(url, Rewrite.of(paths, {}).apply_path) for name, (url, paths) in spec.destinations.items()
    }

    def judged(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
        return judge(live, shadow, by, budget, about)

    def judged_values(live: Any, shadow: Any, budget: Budget, about: About) -> Judgement:
        return judge_values(live, shadow, by, budget, about)

    judging = judged if spec.online else None

    def record_line(exchange: Exchange) -> tuple[bytes, Mapping[str, Verdict | None], Sequence[str]]:
        verdicts: dict[str, Verdict | None] = dict.fromkeys(exchange.shadows)
        failed: list[str] = []
        line = encode(
            exchange,
            proxy=writer,
            policy=how,
            judge=judging,
            judge_values=judged_values,
            rules=by.digest,
            on_verdict=verdicts.__setitem__,
            on_failed=failed.append,
        )
        if line:
            seen(line, verdicts)  # before counting: a record that is counted can already be read
        if trace is not None:
            trace(exchange, verdicts, destinations, dict(_generated(exchange, how, destinations)))
        return line, verdicts, failed

    return record_line


def _generated(
    exchange: Exchange, how: Policy, destinations: Mapping[str, Destination]
) -> Iterator[tuple[str, Attributes]]:
    """What spans say of each leg that is a call of a language model."""
    if not generative.may_generate(exchange.request.body):
        return
    budget = Budget(how.seconds, memory=how.memory)
    head = read_head(exchange.request.fields, how.redaction, how.heads.plain)
    asked = read_body(head, exchange.request.body, exchange.request.body_bytes, how.body_limit, budget)
    try:
        kind, value = asked.answer(budget)
        for name, leg in {LIVE: exchange.live, **exchange.shadows}.items():
            said = said_by(leg, how, budget)
            meaning = None if said is None else said.read(budget)
            if meaning is not None and meaning.kind == "json":
                address = destinations[name].address if name in destinations else ""
                yield name, generative.attributes(value if kind == "json" else None, meaning.value, address)
    except Exhausted:
        return
