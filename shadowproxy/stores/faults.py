"""What a store's client raises, as an OSError of one line that shows no address, signature or key of the client's."""

import errno
import re
from typing import Final

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z]{3,60})</Code>")
_NO_CREDENTIALS: Final = re.compile(
    r"performing token request|://169\.254\.|://metadata\.google|://sts\.|://login\.microsoftonline|://oauth2\."
)
"""Who is asked for credentials, in what the client says; not in the name of a bucket or an object."""

_ELSEWHERE: Final = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
ACCOUNT: Final = (
    "its account is missing: set AZURE_STORAGE_ACCOUNT_NAME, or give abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/"
)
NO_BUCKET: Final = "there is no such bucket"
CREDENTIALS: Final = "no credentials were found, neither in the environment nor from the machine's own service"


def fault(error: BaseException, name: str) -> OSError:
    """The error to raise for one of the client's; `name` is what was looked for, as messages show it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    text = str(error)
    first = text.partition("\n")[0]
    kind = type(error).__name__
    status = int(found[1]) if (found := _STATUS.search(first)) else None
    code = found[1] if (found := _CODE.search(text)) else None
    said = " ".join(str(each) for each in (status, code) if each is not None)
    if code == "NoSuchBucket":
        return FileNotFoundError(errno.ENOENT, NO_BUCKET, name)
    if status == 301 or code in _ELSEWHERE or "BareRedirect" in text:
        return OSError(errno.EREMOTE, "the bucket is in another region; set AWS_REGION", name)
    if "Account must be specified" in first:
        return OSError(errno.EINVAL, ACCOUNT, name)
    if _NO_CREDENTIALS.search(first):
        return PermissionError(errno.EACCES, CREDENTIALS, name)
    if status in (401, 403) or kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return PermissionError(errno.EACCES, f"the store refuses access ({said})" if said else CREDENTIALS, name)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, "there is no such object", name)
    if kind == "PreconditionError":
        return OSError(errno.ESTALE, "it was replaced while it was read", name)
    if status is not None:
        return OSError(errno.EREMOTEIO, f"the store answers {said}", name)
    if "timed out" in text or "TimedOut" in text or "kind: Timeout" in text:
        return TimeoutError(errno.ETIMEDOUT, "the store does not answer in time", name)
    if "kind: Connect" in text or "error sending request" in first:
        return ConnectionError(errno.ECONNREFUSED, "the store cannot be reached", name)
    if "IncompleteBody" in text or "kind: Interrupted" in text or "body error" in first:
        return ConnectionError(errno.ECONNRESET, "the connection to the store broke again and again", name)
    return OSError(errno.EIO, f"the store's client failed ({kind})", name)
