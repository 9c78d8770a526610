"""What an answer says that it took: tokens read, generated and found in a cache, and what it cost.

| API | tokens in | tokens out | cached |
|---|---|---|---|
| chat, completions, embeddings | `prompt_tokens` | `completion_tokens` | `prompt_tokens_details.cached_tokens` |
| responses | `input_tokens` | `output_tokens` | `input_tokens_details.cached_tokens` |
| messages | `input_tokens` + the cache's two | `output_tokens` | `cache_read_input_tokens` |
| Bedrock's Converse | `inputTokens` + the cache's two | `outputTokens` | `cacheReadInputTokens` |
| ollama | `prompt_eval_count` | `eval_count` | |
| gemini | `promptTokenCount` + tools' | `candidatesTokenCount` + thoughts' | `cachedContentTokenCount` |

In `usage`, `usageMetadata` (Gemini), or the answer itself (Ollama). Tokens in are all that the model was given.
Anthropic and Bedrock count those of the cache beside `input_tokens`, the others within; DeepSeek names the cached ones
`prompt_cache_hit_tokens`. A stream's usage is what its events say last.

The cost is what OpenRouter and LiteLLM say in `usage.cost`, Perplexity in `usage.cost.total_cost`, or else the header
field `x-litellm-response-cost`: of whole answers only, as the head of a stream is sent before its cost is known.
"""

import re
from typing import Any, Final, NamedTuple

COST_FIELD: Final = "x-litellm-response-cost"
"""In lower case."""

_MOST_TOKENS: Final = 1_000_000_000
_MOST_COST: Final = 1e9
_COST: Final = re.compile(r"\d{1,9}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?")


class Usage(NamedTuple):
    """What an answer took; None for what it does not say. `cached` are part of `tokens_in`."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None
    cost: float | None = None

    @property
    def tokens(self) -> int | None:
        """Tokens in and out; None if neither is known."""
        if self.tokens_in is None:
            return self.tokens_out
        return self.tokens_in + (self.tokens_out or 0)


NOTHING: Final = Usage()


def usage_in(value: Any) -> Usage:
    """What the value of an answer says that it took. A value that says nothing of it gives NOTHING."""
    if type(value) is not dict:
        return NOTHING
    usage = value.get("usage")
    if type(usage) is dict:
        return _in_usage(usage)
    if type(metadata := value.get("usageMetadata")) is dict:
        return Usage(
            _sum(metadata, "promptTokenCount", "toolUsePromptTokenCount"),
            _sum(metadata, "candidatesTokenCount", "thoughtsTokenCount"),
            _count(metadata.get("cachedContentTokenCount")),
        )
    if "prompt_eval_count" in value or "eval_count" in value:
        return Usage(_count(value.get("prompt_eval_count")), _count(value.get("eval_count")))
    return NOTHING


def _in_usage(usage: dict[str, Any]) -> Usage:
    cost = _cost(usage.get("cost"))
    if "inputTokens" in usage:
        cached = _count(usage.get("cacheReadInputTokens"))
        tokens_in = _sum(usage, "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
        return Usage(tokens_in, _count(usage.get("outputTokens")), cached, cost)
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        cached = _detail(usage.get("prompt_tokens_details"), usage.get("prompt_cache_hit_tokens"))
        return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), cached, cost)
    tokens_in = _sum(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    cached = _detail(usage.get("input_tokens_details"), usage.get("cache_read_input_tokens"))
    return Usage(tokens_in, _count(usage.get("output_tokens")), cached, cost)


def _detail(details: Any, otherwise: Any) -> int | None:
    found = _count(details.get("cached_tokens")) if type(details) is dict else None
    return _count(otherwise) if found is None else found


def _sum(counts: dict[str, Any], first: str, *more: str) -> int | None:
    """The sum of counts of which the first has to be there."""
    total = _count(counts.get(first))
    return total if total is None else total + sum(_count(counts.get(name)) or 0 for name in more)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _cost(value: Any) -> float | None:
    if type(value) is dict:
        value = value.get("total_cost")
    if type(value) is str:
        return cost_in(value)
    if type(value) is not float and type(value) is not int:
        return None
    return float(value) if 0 <= value <= _MOST_COST else None


def cost_in(text: str) -> float | None:
    """A cost as a header field has it."""
    text = text.strip()
    return _cost(float(text)) if _COST.fullmatch(text) is not None else None
