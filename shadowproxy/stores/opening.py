"""Opens stores through `obstore`, which the extra `fleet` installs: one client for each bucket of a process."""

import base64
import configparser
import errno
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from shadowproxy.stores.addresses import Address
from shadowproxy.stores.faults import fault

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, HTTPStore, RetryConfig, S3Store

    Store: TypeAlias = AzureStore | GCSStore | HTTPStore | S3Store

EXTRA: Final = "reading and writing object stores needs the extra shadowproxy-sidecar[fleet]"


class Patience(NamedTuple):
    """How long a store may take. Times are in seconds.

    Attributes:
        connect: for a connection.
        silence: without a byte.
        whole: for one request with its whole answer.
        retries, retry_for: of a request that failed by no fault of its own.
        pause: before the first retry; it doubles.
    """

    connect: float = 5.0
    silence: float = 30.0
    whole: float = 24 * 3600.0
    retries: int = 4
    retry_for: float = 60.0
    pause: float = 0.2


READING: Final = Patience()
"""For a person who waits for a report: a store that is gone is reported within two minutes."""

_opened: dict[tuple[object, ...], "Store"] = {}


def in_use() -> bool:
    """Whether this process has the client's threads: it must not fork any more, as a fork would lack them."""
    return "obstore" in sys.modules


def store_of(address: Address, patience: Patience | None = None) -> "Store":
    """The store of an address; without a patience, for reading. Raises OSError, also where the extra is missing."""
    patience = patience or READING
    key: tuple[object, ...] = (os.getpid(), address.kind, address.bucket, address.account, patience)
    if address.kind == "http":
        key = (*key, address.root, address.user)
    if key not in _opened:
        try:
            import obstore.store  # noqa: F401
        except ImportError:
            raise OSError(errno.ENOPKG, EXTRA, address.shown) from None
        try:
            opened = _open(address, patience)
        except Exception as error:  # noqa: BLE001  # its errors have no common base: some are ValueError
            raise fault(error, address.shown) from None
        if len(_opened) >= 64:  # a web server's files have one each
            _opened.clear()
        _opened[key] = opened
    return _opened[key]


def _open(address: Address, patience: Patience) -> "Store":
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=patience.connect),
        "read_timeout": timedelta(seconds=patience.silence),
        "timeout": timedelta(seconds=patience.whole),
    }
    retry: RetryConfig = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retry_for),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.pause),
            "max_backoff": timedelta(seconds=max(patience.pause, 5.0)),
            "base": 2,
        },
    }
    if address.kind == "http":
        client["allow_http"] = address.root.lower().startswith("http:")
        if address.user is not None:
            encoded = base64.b64encode(address.user.encode()).decode()
            client["default_headers"] = {"authorization": f"Basic {encoded}"}
        return HTTPStore.from_url(address.root, client_options=client, retry_config=retry)
    if address.kind == "gs":
        return GCSStore(address.bucket, client_options=client, retry_config=retry)
    if address.kind == "az":
        if any(os.environ.get(f"{name}_ENDPOINT", "").startswith("http:") for name in ("AZURE", "AZURE_STORAGE")):
            client["allow_http"] = True
        given: dict[str, Any] = {} if address.account is None else {"account_name": address.account}
        return AzureStore(address.bucket, client_options=client, retry_config=retry, **given)
    return _s3(S3Store, address, client, retry)


def _s3(kind: "type[S3Store]", address: Address, client: "ClientConfig", retry: "RetryConfig") -> "S3Store":
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    given: dict[str, Any] = {}
    if endpoint:
        given["endpoint"] = endpoint
        client["allow_http"] = endpoint.lower().startswith("http:")
    given.update(_profile())
    return kind(address.bucket, client_options=client, retry_config=retry, **given)


_OWN: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _profile() -> dict[str, Any]:
    """The profile of `aws configure`, which the client does not read: only keys in its files, no single sign-on.

    Workloads in a cloud have other credentials, which the client finds by itself.
    """
    profile = os.environ.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        file = configparser.RawConfigParser()
        try:
            file.read(os.environ.get(variable) or Path.home() / ".aws" / name)
        except (OSError, RuntimeError, configparser.Error, UnicodeDecodeError):
            continue
        for section in (profile, f"profile {profile}"):
            if file.has_section(section):
                found.update(file.items(section))
    given = {}
    if "region" in found and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        given["region"] = found["region"]
    if "aws_access_key_id" in found and not any(os.environ.get(name) for name in _OWN):
        given["access_key_id"] = found["aws_access_key_id"]
        given["secret_access_key"] = found.get("aws_secret_access_key", "")
        if token := found.get("aws_session_token"):
            given["session_token"] = token
    return given
