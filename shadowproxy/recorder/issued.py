"""What a record says about the IDs that live and a shadow issued: those translated in the request, and those learnt.

A value is shown where the record shows what stands at its place, and replaced by a mark where it does not.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from shadowproxy.credential_values import credentials_in, is_credential_field
from shadowproxy.echoes import Echoes
from shadowproxy.exchange import Reply, ShadowLeg, Skipped
from shadowproxy.recorder.policy import Policy
from shadowproxy.recorder.sample import KINDS
from shadowproxy.redaction import BLANK, Redaction


def add_issued(
    leg: ShadowLeg, policy: Policy, echoes: Echoes | None, encode: Callable[[Any], bytes], line: list[bytes]
) -> None:
    """Add the members `translated` and `learnt` of a shadow's leg, where it has them."""
    if isinstance(leg, Skipped):
        return
    if leg.translated:
        entries = [
            {"in": place, "learnt_from": record, **_shown(place, live, shadow, policy, echoes)}
            for place, record, live, shadow in leg.translated
        ]
        line += (b',"translated":', encode(entries))
    if isinstance(leg, Reply) and leg.learnt:
        found = [{"at": place, **_shown(place, live, shadow, policy, echoes)} for place, live, shadow in leg.learnt]
        line += (b',"learnt":', encode(found))


def secrets_sent(legs: Iterable[ShadowLeg], redaction: Redaction) -> list[str]:
    """The shadows' own values in their requests where the record has a mark: answers may repeat them."""
    found: list[str] = []
    for leg in legs:
        if not isinstance(leg, Skipped):
            for place, _, _, shadow in leg.translated:
                if _is_hidden(place, shadow, redaction):
                    found.append(shadow)
    return found


def _shown(place: str, live: str, shadow: str, policy: Policy, echoes: Echoes | None) -> dict[str, str]:
    """Both values as the record may show them; nothing of a body that it does not have."""
    if not policy.shows(*KINDS) and place.startswith(_JSON):
        return {}
    values: dict[str, str] = {}
    for name, value in (("live", live), ("shadow", shadow)):
        if _is_hidden(place, value, policy.redaction):
            value = policy.redaction.mark(value.encode("utf-8", "replace"))
        elif echoes is not None:
            value = echoes.text(value)
        values[name] = value
    return values


_JSON: Final = "json:"


def _is_hidden(place: str, value: str, redaction: Redaction) -> bool:
    kind, _, name = place.partition(":")
    if kind == "cookie" or kind == "set-cookie":
        return True
    if kind == "header":
        return redaction.hides_header(name.encode("utf-8", "replace")) or is_credential_field(name, value)
    if kind == "query":
        return redaction.hides_parameter(name, value)
    if kind == "json":
        return bool(redaction.json) and redaction.difference(name, value, value)[1] == BLANK
    return bool(credentials_in(value))
