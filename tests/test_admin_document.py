"""docs/reference/admin.md and the OpenAPI document say what the admin server does: paths, refusals, examples, forms."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import StartProxy
from fakes import always, answer
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate
from test_admin import ADMIN, client, wait_written

from shadowproxy.serve.admin import openapi
from shadowproxy.serve.probes import answers

GUIDE = (Path(__file__).parent.parent / "docs" / "reference" / "admin.md").read_text()
HOW_TO = (Path(__file__).parent.parent / "docs" / "how-to" / "standing-verdict.md").read_text()
ROW = re.compile(r"^\| `(GET|POST|PUT) (/[^`]*)` \| ([a-z ]+) \|", re.MULTILINE)
DOCUMENT = openapi.document()
MARK = {"X-Shadowproxy-Admin": "1"}
JSON = (b"Content-Type", b"application/json")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


def test_the_guide_and_the_document_have_the_same_paths() -> None:
    assert {(method, path) for method, path, _ in ROW.findall(GUIDE)} == {
        (method, path) for method, path, _ in operations()
    }


async def test_every_path_of_the_guide_exists_and_is_guarded_as_the_guide_says(proxy: StartProxy) -> None:
    """By which field is missing: so each row's second column is seen to hold."""
    async with (
        proxy(shadows={"a": always(answer(b"{}"))}, admin_token="0123456789abcdef", **ADMIN) as running,
        client(running) as admin,
    ):
        for method, path, who in ROW.findall(GUIDE):
            if path == "/events":
                continue  # it does not end; test_admin_events.py has it
            path = path.replace("{name}", "a").replace("{record}", "0192f3a0-0000-7000-8000-000000000000")
            path = path.replace("/gate", "/gate?when=no_data")  # 409 for another word
            rebound = await admin.request(method, path, headers={"Host": "evil.example", **MARK})
            tokenless = await admin.request(method, path, headers=MARK)
            markless = await admin.request(method, path)
            assert (rebound.status_code, tokenless.status_code, markless.status_code) == {
                "anyone": (200, 200, 200),
                "by address": (421, 200, 200),
                "private": (421, 401, 401),
                "change": (421, 401, 403),
            }[who.strip()], path


def test_the_guide_lists_the_reason_of_every_error() -> None:
    room = Path(openapi.__file__).parent
    source = (room / "app.py").read_text() + (room / "access.py").read_text()
    refusals = set(re.findall(r'(?:AdminError|Rejected)\(\s*(\d{3}),\s*"(\w+)"', source))
    refusals.add(("503", answers.UNAVAILABLE))  # the front's own
    rows = re.findall(r"^\| (\d{3}) \| ([^|]*) \|", GUIDE, re.MULTILINE)
    assert {(status, reason) for status, reasons in rows for reason in re.findall(r"`(\w+)`", reasons)} == refusals
    assert refusals


def schema(path: str, method: str = "get") -> Draft202012Validator:
    """For what `path` answers when it answers as asked."""
    content = DOCUMENT["paths"][path][method]["responses"]["200"]["content"]["application/json"]
    return Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]})


async def test_the_responses_have_the_form_that_the_document_gives(proxy: StartProxy) -> None:
    live, shadow = answer(b'{"p": 1}', JSON), answer(b'{"p": 2}', JSON)
    options = {"budget": {"requests": 100, "duration": "1h"}}
    async with (
        proxy(
            always(live), {"a": always(shadow)}, shadow_options=options, control={"percent": 100}, **ADMIN
        ) as running,
        client(running) as admin,
    ):
        await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await wait_written(admin, 1)
        for path in (
            *("/healthz", "/readyz", "/shadows", "/config", "/exchanges", "/openapi.json"),
            *("/verdict", "/summary"),
        ):
            schema(path).validate((await admin.get(path)).json())
        overview = (await admin.get("/overview")).json()
        schema("/overview").validate(overview)
        assert overview["shadows"][0]["budget"]["requests"] == {"used": 1, "allowed": 100}
        assert overview["control"]["name"] == "control"
        record = (await admin.get("/exchanges")).json()["exchanges"][0]["record"]
        schema("/exchanges/{record}").validate((await admin.get(f"/exchanges/{record}")).json())
        read = (await admin.get(f"/exchanges/{record}/answers")).json()
        schema("/exchanges/{record}/answers").validate(read)
        assert read["shadows"].keys() == {"a", "control"}
        for path in ("/pause", "/resume", "/shadows/{name}/pause", "/shadows/{name}/resume", "/verdict/reset"):
            told = await admin.post(path.replace("{name}", "a"), headers=MARK)
            schema(path, "post").validate(told.json())
        told = await admin.put("/shadows/a/percent", headers=MARK, json={"percent": 5})
        schema("/shadows/{name}/percent", "put").validate(told.json())
        refused = DOCUMENT["components"]["schemas"]["Error"]
        Draft202012Validator(refused).validate((await admin.get("/nowhere")).json())


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guide's examples use curl")
@pytest.mark.slow  # curl listens for three seconds
async def test_the_guides_examples_work(proxy: StartProxy) -> None:
    live, shadow = answer(b'{"p": 1}', JSON), answer(b'{"p": 2}', JSON)
    async with proxy(always(live), {"challenger": always(shadow)}, **ADMIN) as running, client(running) as admin:
        await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await wait_written(admin, 1)
        record = (await admin.get("/exchanges")).json()["exchanges"][0]["record"]
        examples = [
            line
            for page in (GUIDE, HOW_TO)
            for block in re.findall(r"```sh\n(curl.*?)```", page, re.DOTALL)
            for line in block.strip().split("\n")
        ]
        assert len(examples) == 17
        for example in examples:
            said = await shell(example.replace("http://127.0.0.1:9901", str(admin.base_url).rstrip("/")), record)
            if "/events" in example:
                assert len(re.findall(r"^event: overview\ndata: \{.*\}\n\n", said, re.MULTILINE)) >= 3
            else:
                assert "error" not in json.loads(said), example
        assert json.loads(await shell(examples[1].replace("9901", str(admin.base_url.port)), record))["exchanges"]


async def shell(command: str, record: str) -> str:
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, env=os.environ | {"RECORD": record}
    )
    said, _ = await process.communicate()
    return said.decode()
