"""The admin server for programs: an OpenAPI 3.1 document. docs/reference/admin.md describes the same for people."""

from typing import Any

from shadowproxy import __version__
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve.admin.recent import MAX_RECORDS, RECORD_ID
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.ramping import Word
from shadowproxy.serve.standing.answer import HEADLINES, WORDS

_Schema = dict[str, Any]

TEXT: _Schema = {"type": "string"}
TIME: _Schema = {"type": "string", "format": "date-time"}
FLAG: _Schema = {"type": "boolean"}
COUNT: _Schema = {"type": "integer", "minimum": 0}
AMOUNT: _Schema = {"type": "number", "minimum": 0}
SHARE: _Schema = {"type": "number", "minimum": 0, "maximum": 1}
PERCENT: _Schema = {"type": "number", "minimum": 0, "maximum": 100}


def _object(**properties: _Schema) -> _Schema:
    """An object that has all of these and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _or_null(schema: _Schema) -> _Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _list(schema: _Schema) -> _Schema:
    return {"type": "array", "items": schema}


def _counts(*names: str) -> _Schema:
    """A count for each of these; those that are 0 may be left out."""
    return {"type": "object", "properties": dict.fromkeys(names, COUNT), "additionalProperties": False}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_LATENCY = _object(p50_ms=_or_null(AMOUNT), p99_ms=_or_null(AMOUNT), count=COUNT)
_SAMPLING_KEYS = _object(first=COUNT, again=COUNT)
_WORD: _Schema = {"enum": list(WORDS)}
_PARTS: _Schema = {"type": "array", "items": TEXT, "minItems": 3, "maxItems": 3}
_RAMP = _object(
    state={"enum": ["rising", "holding", "waiting", "top", "halted"]},
    steps=_list(PERCENT),
    percent=PERCENT,
    next=_or_null(_object(percent=PERCENT, at=TIME)),
    why=_or_null(TEXT),
    raised=COUNT,
    back=COUNT,
    last=_or_null(_object(**{"at": TIME, "from": PERCENT, "to": PERCENT, "why": TEXT})),
    conditions=_list(
        _object(
            name={"enum": ["live_p99_ratio", "shadow_errors"]},
            result={"enum": list(Word)},
            figure=_or_null(AMOUNT),
            low=_or_null(AMOUNT),
            allowed=AMOUNT,
            says=TEXT,
        )
    ),
)
_SHADOW_STATE: dict[str, _Schema] = {
    "url": TEXT,
    "percent": PERCENT,
    "configured_percent": PERCENT,
    "paused": FLAG,
    "unusable": _or_null(TEXT),
    "breaker": {"enum": ["closed", "open", "probing"]},
    "in_flight": COUNT,
    "waiting": COUNT,
    "budget": _or_null(
        _object(
            requests=_or_null(_object(used=COUNT, allowed=COUNT)),
            tokens=_or_null(_object(used=COUNT, allowed=COUNT)),
            cost=_or_null(_object(used=AMOUNT, allowed=AMOUNT)),
            seconds_left=_or_null(AMOUNT),
        )
    ),
    "outcomes": _counts(*Outcome),
    "verdicts": _counts(*Verdict),
    "not_chosen": _counts(*NotChosen),
    "answers_failed": COUNT,
    "state": _or_null(_object(translated=COUNT, ids=COUNT, dropped=COUNT)),
    "ramp": _or_null(_RAMP),
}


def _points(width: int) -> _Schema:
    return _list({"type": "array", "items": _or_null(AMOUNT), "minItems": width, "maxItems": width})


_SCHEMAS: dict[str, _Schema] = {
    "Error": _object(error=_object(reason=TEXT, detail=TEXT)),
    "Status": _object(status=TEXT),
    "Paused": _object(paused=FLAG),
    "Percent": _object(percent=PERCENT),
    "Shadow": _object(**_SHADOW_STATE, begun=COUNT, chosen=COUNT),
    "Journal": _object(
        written=COUNT,
        bytes=COUNT,
        queued=COUNT,
        queued_bytes=COUNT,
        lost={"type": "object", "additionalProperties": COUNT},
        segments=COUNT,
        last_error=_or_null(TEXT),
        failing=_or_null(TEXT),
        sampled_out=COUNT,
    ),
    "Alive": _object(status=TEXT, log=TEXT, unusable=_list(TEXT)),
    "Shadows": _object(
        paused=FLAG,
        shadows={"type": "object", "additionalProperties": _ref("Shadow")},
        sampling_keys=_SAMPLING_KEYS,
        journal=_ref("Journal"),
    ),
    "Record": {
        "type": "object",
        "description": "One line of the log, schema 1, as it stands there: docs/reference/log.md describes each key.",
        "required": ["schema", "id", "record", "at", "proxy", "request", "live", "shadows", "control"],
    },
    "Answers": _object(
        shadows={
            "type": "object",
            "description": "For each shadow, and `control`, the lines of both answers. A line is in three parts, of "
            "which the second differs from the other answer.",
            "additionalProperties": _list(_object(live=_PARTS, shadow=_PARTS, differs=FLAG)),
        }
    ),
    "Exchanges": _object(exchanges=_list(_ref("Record"))),
    "Configuration": {
        "type": "object",
        "description": "The configuration in force, with defaults, without secrets: docs/reference/configuration.md.",
        "required": ["live", "shadows", "log"],
    },
    "StandingVerdict": _object(
        schema={"const": 1},
        verdict=_WORD,
        since=TIME,
        as_of=TIME,
        window=_or_null(AMOUNT),
        shadows={
            "type": "object",
            "additionalProperties": _object(
                verdict=_WORD,
                headline={"enum": list(HEADLINES.values())},
                sentence=_or_null(TEXT),
                n=COUNT,
                since=TIME,
                last=_or_null(TIME),
                checks=_list(_object(check=TEXT, result=_WORD, says=_or_null(TEXT))),
            ),
        },
        counted=_object(
            records=COUNT,
            folded=COUNT,
            shed=COUNT,
            long=COUNT,
            lost=COUNT,
            gaps=COUNT,
            seconds=COUNT,
            one_in=COUNT,
        ),
        notes=_list(TEXT),
    ),
    "Summary": {
        "type": "object",
        "description": "What was counted, as `shadowproxy summarise` saves it, with what it is of under `standing`.",
        "required": ["shadowproxy_summary", "shadows", "standing", "digest"],
    },
    "ShadowOverview": _object(
        name=TEXT,
        **_SHADOW_STATE,
        rate=AMOUNT,
        latency=_LATENCY,
        agreement=_or_null(_object(share=SHARE, low=SHARE, high=SHARE, compared=COUNT)),
        series=_points(5),
    ),
    "Overview": _object(
        at=TIME,
        version=TEXT,
        proxy=TEXT,
        uptime_seconds=AMOUNT,
        window_seconds=AMOUNT,
        state={"enum": ["ready", "stopping"]},
        paused=FLAG,
        config=_object(generation=COUNT, loaded_at=TIME, reload_ok=FLAG, reload_error=_or_null(TEXT)),
        live=_object(
            url=_or_null(TEXT),
            rate=AMOUNT,
            in_flight=COUNT,
            answers_failed=COUNT,
            errors_share=_or_null(SHARE),
            outcomes=_counts(*Outcome),
            latency=_object(mirrored=_LATENCY, not_mirrored=_LATENCY),
            series=_points(4),
        ),
        shadows=_list(_ref("ShadowOverview")),
        sampling_keys=_SAMPLING_KEYS,
        control=_or_null(_ref("ShadowOverview")),
        journal=_object(
            written=COUNT,
            sampled_out=COUNT,
            lost={"type": "object", "additionalProperties": COUNT},
            queued=COUNT,
            last_error=_or_null(TEXT),
            failing=_or_null(TEXT),
        ),
        uploads=_or_null(
            _object(
                waiting=COUNT,
                waiting_bytes=COUNT,
                oldest=_or_null(AMOUNT),
                sent=COUNT,
                sent_bytes=COUNT,
                summaries=COUNT,
                failures=COUNT,
                removed=COUNT,
                trouble=_or_null(TEXT),
            )
        ),
        overload=_object(loop_lag_ms=AMOUNT, memory_held=COUNT, memory_limit=COUNT),
    ),
}

_ERRORS = {
    "400": "A parameter or the body is invalid.",
    "401": "The token is missing or wrong.",
    "403": "`X-Shadowproxy-Admin: 1` is missing, or admin listens beyond loopback and no token is configured.",
    "404": "No such shadow or record.",
    "408": "The body took too long.",
    "413": "The body, or the record, is too long.",
    "421": "The Host field is not a name or address of this server.",
    "503": "The part that answers does not respond, too many clients listen, or a worker has not confirmed a change.",
}
_ANY = "503"  # also what the front answers while the recorder does not take a request
_TO_SEE = ("401", "403", "421", _ANY)
_TO_CHANGE = ("401", "403", "404", "421", _ANY)

_NAME = {"name": "name", "in": "path", "required": True, "schema": TEXT, "description": "A shadow, or `control`."}
_RECORD = {
    "name": "record",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{RECORD_ID.pattern}$"},
    "description": "Its `record`, which is unique, and not the request ID.",
}
_ADMIN_FIELD = {
    "name": "X-Shadowproxy-Admin",
    "in": "header",
    "required": True,
    "schema": {"const": "1"},
    "description": "Needed for every change: no page of another site can send it.",
}
_TOKEN: list[dict[str, list[str]]] = [{}, {"token": []}]


def document() -> dict[str, Any]:
    """The whole document. It holds no secrets and no addresses, and is the same for everybody."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shadowproxy admin",
            "version": __version__,
            "description": "See, steer and stop a shadowproxy. Served on its own port, never on the callers' port.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": {
                "get": {
                    "summary": "The page, for people",
                    "responses": {"200": _response("The page; it holds no data itself.", "text/html", TEXT)}
                    | _errors(_ANY),
                }
            },
            "/openapi.json": {
                "get": {
                    "summary": "This document",
                    "responses": {"200": _response("OpenAPI 3.1.", "application/json", {"type": "object"})}
                    | _errors(_ANY),
                }
            },
            "/healthz": {
                "get": _open("Whether the process is alive, and what fails in the log and the shadows", "Alive")
            },
            "/readyz": {
                "get": _open("Whether requests are accepted", "Status")
                | {"responses": {"200": _json("It is ready.", "Status"), "503": _json("It is stopping.", "Status")}}
            },
            "/metrics": {
                "get": {
                    "summary": "Prometheus metrics",
                    "responses": {"200": _response("The text format, version 0.0.4.", "text/plain", TEXT)}
                    | _errors(_ANY),
                }
            },
            "/shadows": {
                "get": _open(
                    "The state of each shadow and of the journal, with counts since the start", "Shadows", "421", _ANY
                )
            },
            "/verdict": {
                "get": _open("The standing verdict, in words and counts", "StandingVerdict", "400", "404", "503")
                | {"parameters": [_query("shadow", TEXT, "Only on this shadow.")]}
            },
            "/verdict/gate": {"post": _gate()},
            "/summary": {"get": _private("All that was counted for the standing verdict", "Summary", "404")},
            "/verdict/reset": {
                "post": _change(
                    "Reset the standing verdict",
                    "StandingVerdict",
                    _query("shadow", TEXT, "Only with this shadow."),
                    "400",
                    "404",
                )
            },
            "/config": {"get": _private("The configuration in force, without its secrets", "Configuration")},
            "/exchanges": {
                "get": _private("The latest records, newest first", "Exchanges", "400")
                | {
                    "parameters": [
                        _query("verdict", {"enum": list(Verdict)}, "Records in which some shadow has this verdict."),
                        _query(
                            "shadow", TEXT, "Records with this shadow, and with that verdict for it if one is given."
                        ),
                        _query(
                            "limit",
                            {"type": "integer", "minimum": 1, "maximum": MAX_RECORDS, "default": 50},
                            "At most so many.",
                        ),
                    ]
                }
            },
            "/exchanges/{record}": {
                "get": _private("One of the latest records", "Record", "404") | {"parameters": [_RECORD]}
            },
            "/exchanges/{record}/answers": {
                "get": _private("What its answers say, line by line", "Answers", "404", "413")
                | {"parameters": [_RECORD]}
            },
            "/overview": {"get": _private("Everything at a glance, with the last five minutes", "Overview")},
            "/events": {
                "get": _private("The overview now and then every second", "Overview")
                | {
                    "responses": {
                        "200": _response("Server-sent events named `overview`.", "text/event-stream", TEXT),
                        **_errors(*_TO_SEE),
                    }
                }
            },
            "/pause": {"post": _change("Mirror nothing until resumed", "Paused")},
            "/resume": {"post": _change("Mirror again, except to shadows that were paused by name", "Paused")},
            "/shadows/{name}/pause": {"post": _change("Mirror nothing to one shadow until resumed", "Shadow", _NAME)},
            "/shadows/{name}/resume": {"post": _change("Mirror to this shadow again", "Shadow", _NAME)},
            "/shadows/{name}/percent": {
                "put": _change(
                    "Set the percent of requests that are mirrored to this shadow", "Shadow", _NAME, "400", "408", "413"
                )
                | {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Percent")}}}}
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`admin_token`. Not needed while none is configured and admin listens on loopback.",
                }
            },
        },
    }


def _response(description: str, media_type: str, schema: _Schema) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _json(description: str, schema: str) -> dict[str, Any]:
    return _response(description, "application/json", _ref(schema))


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _json(_ERRORS[status], "Error") for status in sorted(statuses)}


def _open(summary: str, schema: str, *errors: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _json(f"{summary}.", schema), **_errors(*errors)}}


def _private(summary: str, schema: str, *errors: str) -> dict[str, Any]:
    return _open(summary, schema, *_TO_SEE, *errors) | {"security": _TOKEN}


def _change(summary: str, schema: str, *more: Any) -> dict[str, Any]:
    parameters = [_ADMIN_FIELD, *(each for each in more if not isinstance(each, str))]
    errors = {*_TO_CHANGE, *(each for each in more if isinstance(each, str))}
    if len(parameters) == 1:
        errors.discard("404")
    return _open(summary, schema, *errors) | {"security": _TOKEN, "parameters": parameters}


def _gate() -> dict[str, Any]:
    return {
        "summary": "200 while the standing verdict is the wanted word, 409 while it is another",
        "parameters": [
            _query("shadow", TEXT, "Only on this shadow."),
            _query("when", _WORD | {"default": "pass"}, "The wanted word."),
        ],
        "responses": {
            "200": _json("The verdict, which is that word.", "StandingVerdict"),
            "409": _json("The verdict, which is another word.", "StandingVerdict"),
            **_errors("400", "404", "503"),
        },
    }


def _query(name: str, schema: _Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}
