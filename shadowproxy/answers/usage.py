"""What an answer says that it took, by its body or else by its head."""

from shadowproxy.answers.contents import Content, Fields, field_value
from shadowproxy.usage import COST_FIELD, NOTHING, Usage, cost_in, usage_in


def usage_of(content: Content, headers: Fields) -> Usage:
    """What an answer says that it took."""
    found = usage_in(content.value) if content.kind == "json" else NOTHING
    if found.cost is not None or content.stream is not None:
        return found
    return found._replace(cost=cost_in(field_value(headers, COST_FIELD)))
