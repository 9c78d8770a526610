"""Servers of language models, and the SDKs that call them, each from an environment of its own."""

import http.client
import json
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from parties import installed, programs

KEY = "sk-of-the-test-0123456789abcdef"


def shadow_options(**more: Any) -> dict[str, Any]:
    """A shadow gets no credential of the callers'; this is its own."""
    return {"timeout": "100s", "headers": {"set": {"Authorization": f"Bearer {KEY}"}}} | more


def litellm(stack: ExitStack, directory: Path, models: Mapping[str, Mapping[str, Any]]) -> str:
    """The gateway with `models`, each with the parameters of LiteLLM."""
    directory.mkdir(parents=True, exist_ok=True)
    port = programs.free_port()
    listed = [{"model_name": name, "litellm_params": dict(parameters)} for name, parameters in models.items()]
    config = directory / f"litellm-{port}.yaml"
    config.write_text(yaml.safe_dump({"model_list": listed}))
    program = installed.python("litellm").with_name("litellm")
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    environment = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    stack.enter_context(programs.started(command, directory / f"litellm-{port}.txt", url=url, **environment))
    wait_until_ready(url, "/health/liveliness")
    return url


def llama_cpp(stack: ExitStack, directory: Path, slots: int = 1, serves: str = "chat") -> str:
    directory.mkdir(parents=True, exist_ok=True)
    port = programs.free_port()
    server = installed.SOURCE / "llama_server.py"
    command = [str(installed.python("llamacpp")), str(server), str(port), str(slots), serves]
    url = f"http://127.0.0.1:{port}"
    stack.enter_context(programs.started(command, directory / f"llama-{port}.txt", url=url))
    wait_until_ready(url, "/health")
    return url


def wait_until_ready(url: str, path: str) -> None:
    """A model server accepts before its model is loaded."""
    until = time.monotonic() + programs.START_DEADLINE
    status = 0
    while status != 200:
        assert time.monotonic() < until, f"{url}{path} answers {status}"
        time.sleep(0.1)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()


def called(python: Path | str, program: str, *arguments: str) -> list[Any]:
    """What a caller's program printed: a JSON value for each answer. Fails the test where it ends with an error."""
    command = [str(python), str(installed.SOURCE / program), *arguments]
    told = subprocess.run(
        command, env=installed.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert told.returncode == 0, told.stderr[-4000:]
    return [json.loads(line) for line in told.stdout.splitlines()]


def by_openai(url: str, model: str, times: int, *calls: str) -> list[Any]:
    return called(installed.python("sdks"), "openai_calls.py", url, model, str(times), *calls)


def by_anthropic(url: str, model: str, times: int, *calls: str) -> list[Any]:
    return called(installed.python("sdks"), "anthropic_calls.py", url, model, str(times), *calls)
