"""Points an alias of MLflow's registry at a model's version, only where the shadow's verdict is a pass.

    python3 promote.py --model fraud --version 7 --shadow challenger (--verdict URL | --report FILE) [--alias champion]

The verdict is that of a running sidecar (`http://HOST:9901`, by `GET /verdict`), of a fleet (repeat --verdict: all must
pass), or of a file that `shadowproxy report --json` wrote. The registry is that of MLFLOW_TRACKING_URI, or of
MLFLOW_REGISTRY_URI. The version that had the alias before is kept under ALIAS-before, so that one command goes back.
Needs `mlflow`.

Exit status 0 if the alias stands at the version, 1 if the verdict is a failure, 3 if it is inconclusive or has too
little data, 2 if something cannot be used. Whatever is not 0 changes nothing.
"""

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

STATUSES = {"pass": 0, "fail": 1, "inconclusive": 3, "no_data": 3}
WORST_FIRST = ("fail", "inconclusive", "no_data", "pass")


class Unusable(Exception):
    """A verdict that cannot be read. The text is one line."""


def word_of_sidecar(url: str, shadow: str) -> str:
    """The verdict of one shadow as a running sidecar says it. Raises Unusable."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable("--verdict is the URL of an admin port, such as http://127.0.0.1:9901")
    query = urllib.parse.urlencode({"shadow": shadow})
    path = parts.path.rstrip("/").removesuffix("/verdict")
    try:
        with urllib.request.urlopen(parts._replace(path=f"{path}/verdict", query=query).geturl(), timeout=30) as got:
            answer = json.loads(got.read())
        return known(answer["shadows"][shadow]["verdict"])
    except urllib.error.HTTPError as error:
        raise Unusable(f"{parts.hostname} answers {error.code}: it may have no shadow {shadow}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{parts.hostname} gives no verdict on {shadow}: {type(error).__name__}") from None


def word_of_report(file: Path, shadow: str) -> str:
    """The verdict of one shadow in a report's JSON. Raises Unusable."""
    try:
        report: Any = json.loads(file.read_bytes())
        return known(report["shadows"][shadow]["verdict"]["result"].replace(" ", "_"))
    except OSError as error:
        raise Unusable(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unusable(f"{file} is no report of `shadowproxy report --json` with a shadow {shadow}") from None


def known(word: str) -> str:
    if word not in STATUSES:
        raise ValueError(word)
    return word


def promote(client: Any, model: str, version: str, alias: str) -> str | None:
    """Point the alias at the version; gives the version that had it before, None if none did."""
    client.get_model_version(model, version)  # or its error: an alias may not point at nothing
    before = client.get_registered_model(model).aliases.get(alias)
    if before is not None and str(before) != version:
        client.set_registered_model_alias(model, f"{alias}-before", str(before))
    client.set_registered_model_alias(model, alias, version)
    return None if before is None else str(before)


def say(message: str) -> None:
    sys.stdout.write(f"{message}\n")


def fail(message: str) -> NoReturn:
    sys.stderr.write(f"promote.py: {message}\n")
    sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="promote.py", description="Point an alias at a version whose shadow passes.")
    parser.add_argument("--model", required=True, help="the registered model")
    parser.add_argument("--version", required=True, help="the version that the shadow serves")
    parser.add_argument("--shadow", required=True, help="the shadow's name")
    parser.add_argument("--alias", default="champion")
    whence = parser.add_mutually_exclusive_group(required=True)
    whence.add_argument("--verdict", metavar="URL", action="append", help="an admin port; repeat it for a fleet")
    whence.add_argument("--report", metavar="FILE", type=Path, help="what `shadowproxy report --json` wrote")
    given = parser.parse_args()
    try:
        if given.report is not None:
            words = [word_of_report(given.report, given.shadow)]
        else:
            words = [word_of_sidecar(url, given.shadow) for url in given.verdict]
    except Unusable as error:
        fail(str(error))
    word = next(each for each in WORST_FIRST if each in words)
    if word != "pass":
        say(f"{given.shadow}: {word}; {given.alias} of {given.model} stays as it is")
        sys.exit(STATUSES[word])
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        fail("mlflow is not installed")
    try:
        before = promote(MlflowClient(), given.model, given.version, given.alias)
    except MlflowException as error:
        fail(f"the registry refuses it: {str(error).partition(chr(10))[0]}")
    after = f" (was {before}, kept as {given.alias}-before)" if before not in (None, given.version) else ""
    say(f"{given.shadow}: pass; {given.alias} of {given.model} is version {given.version}{after}")


if __name__ == "__main__":
    main()
