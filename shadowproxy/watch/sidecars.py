"""The counts of running sidecars: each has what it has counted so far under `GET /summary` of its admin port."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx

from shadowproxy.compare.fold.summary import SummaryError, load
from shadowproxy.sources import COMPRESSED, PLAIN

_TIMEOUT: Final = 30.0
_LARGEST: Final = 256 << 20
_LOG_ENDINGS: Final = (PLAIN, *COMPRESSED, ".json", ".zst", ".gz", ".log")


class SidecarError(Exception):
    """A sidecar did not give its counts. The text is one line, without a user, a password or a query."""


def is_sidecar(path: str) -> bool:
    """Whether this is a sidecar's address, not that of a log's file on a web server. Raises ValueError for neither."""
    try:
        parts = urlsplit(path)
        usable = parts.scheme not in ("http", "https") or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is none, or half of an IPv6 address
        usable = False
    if not usable:
        raise ValueError(f"{path.rpartition('@')[2]} is no address, such as http://127.0.0.1:9901")
    return parts.scheme in ("http", "https") and not parts.path.endswith(_LOG_ENDINGS)


def shown(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{parts.port}" if parts.port else "")


def did_not_answer(missing: Sequence[str], of: int) -> str:
    """That READY is withheld for want of these sidecars, of so many."""
    return f"{len(missing)} of {of} sidecars did not answer: {', '.join(map(shown, missing[:3]))}"


def summary_of(url: str, token: str | None) -> bytes:
    """What a sidecar has counted, as a saved summary. Raises SidecarError."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/summary")
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        # A sidecar is near: the environment's proxy is for what is not.
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", parts._replace(path=f"{path}/summary", fragment="").geturl(), headers=headers) as got,
        ):
            if got.status_code in (401, 403):
                raise SidecarError(f"{shown(url)} wants the admin token: set SHADOWPROXY_ADMIN_TOKEN")
            if got.status_code != 200:
                raise SidecarError(f"{shown(url)} answers {got.status_code} to GET /summary")
            raw = b""
            for piece in got.iter_bytes():
                raw += piece
                if len(raw) > _LARGEST:
                    raise SidecarError(f"{shown(url)} sends more than a summary has")
    except UnicodeEncodeError:
        raise SidecarError(
            f"{shown(url)} cannot be asked: the admin token has characters that no header field has"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SidecarError(f"{shown(url)} cannot be asked: {type(error).__name__}") from None
    try:
        load(raw)
    except SummaryError as error:
        raise SidecarError(f"{shown(url)} answers with no summary: {error}") from None
    return raw
