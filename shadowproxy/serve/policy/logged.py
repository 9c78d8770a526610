"""How much of a body the log needs where nobody compares it: mostly its beginning and its hash. Pure.

A record has the first `log.body_limit` bytes of a longer body, and the hash of all of it. All of it is needed only
where the record depends on the rest:

1. a coded body has to be decoded, and one that is broken further on is recorded as it is;
2. a form, and with `log.redact.json` any body, is searched for secrets;
3. an answer is searched for what was redacted in its request, unless it is longer than `limits.capture`.
"""

from dataclasses import dataclass
from typing import Final

from shadowproxy.exchange import Fields
from shadowproxy.serve.policy.headers import holds_credentials
from shadowproxy.serve.policy.query import remove_credentials

_FORM: Final = b"application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class LogNeeds:
    """What the configuration says. `beginning` is how many bytes of a body are recorded, `hashed` whether the log has
    the hash of a longer one.

    `searched`: every body is searched. `names_secrets`: the configuration names secrets, so that any request may hold
    one. `compared`: answers are compared.
    """

    beginning: int
    hashed: bool = True
    searched: bool = False
    names_secrets: bool = False
    compared: bool = True

    def needs_all(self, fields: Fields) -> bool:
        """Whether the record depends on all of a body with these header fields, compared or not."""
        return self.searched or any(_needs_all(name.lower(), value) for name, value in fields)

    def may_hide_in_answers(self, fields: Fields, target: bytes) -> bool:
        """Whether something in this request may be redacted, which is then looked for in its answers."""
        if self.names_secrets or self.searched or b"=" in target.partition(b"?")[0]:
            return True
        if not target.isascii() or remove_credentials(target) != target:
            return True
        return any(_is_form(name.lower(), value) for name, value in fields) or holds_credentials(fields)


ALL_OF_EACH: Final = LogNeeds(0, searched=True)
"""The log needs all of every body."""


def _needs_all(lower_name: bytes, value: bytes) -> bool:
    return lower_name == b"content-encoding" or _is_form(lower_name, value)


def _is_form(lower_name: bytes, value: bytes) -> bool:
    return lower_name == b"content-type" and value.lower().startswith(_FORM)
