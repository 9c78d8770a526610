"""The known envelopes: the forms in which model servers wrap an answer, and what each generates for every call.

| Envelope | known by | generated for every call |
|---|---|---|
| `chat` (OpenAI, also completions) | `choices` with a message or a reason | IDs, `created`, fingerprint, `timings` |
| `messages` (Anthropic) | `type: message` with a list as `content` | IDs, a thought's signature |
| `responses` (OpenAI) | `object: response` with a list as `output` | IDs, times, `encrypted_content` |
| `ollama` | `done` beside `message` or `response` | `created_at`, durations, IDs of calls |
| `gemini` | `candidates` with a content or a reason | `responseId`, `createTime` |
| `converse` (Bedrock) | `output` with a `message`, and `stopReason` | `metrics`, IDs of calls, a thought's signature |
| `open inference` | `outputs` with `name`, `datatype` and `data` | `id`, unless the caller sent one |
| `predictions` (MLflow, TensorFlow Serving, KServe v1) | `predictions` | nothing |
| `columns` (TensorFlow Serving) | `outputs` as an array of anything else | nothing |
| `seldon`, `seldon tensor` | `data` with `ndarray` or `tensor` | `meta/puid`, unless the caller sent one |
| `list` (OpenAI's embeddings) | `object: list` with a list as `data` | `id`, `created`, how vectors are written |
| `gradio` | `event_id` and nothing else | `event_id` |
| `gradio outputs` | a list as `data` beside `is_generating` and `average_duration` | both durations |

Also what a server's cache held before the call belongs to the call and not to the answer: cached tokens. A name such as
`id` is set aside only in these forms: elsewhere it may be the prediction.
"""

from typing import Any, Final, NamedTuple


class Envelope(NamedTuple):
    """One known form.

    Attributes:
        set_aside: patterns of the places that are generated for every call.
        echoed: the pattern among them that the server copies from the request, if the caller sent a value there.
        text: whether it is the answer of a language model.
    """

    name: str
    set_aside: tuple[str, ...] = ()
    echoed: str | None = None
    text: bool = False


CHAT: Final = Envelope(
    "chat",
    (
        "/id",
        "/created",
        "/system_fingerprint",
        "/timings",
        "/choices/*/message/tool_calls/*/id",
        "/choices/*/message/audio/id",
        "/choices/*/message/audio/expires_at",
        "/usage/prompt_tokens_details/cached_tokens",
    ),
    text=True,
)
MESSAGES: Final = Envelope(
    "messages",
    (
        "/id",
        "/timings",
        "/content/*/id",
        "/content/*/signature",
        "/usage/cache_creation",
        "/usage/cache_creation_input_tokens",
        "/usage/cache_read_input_tokens",
    ),
    text=True,
)
RESPONSES: Final = Envelope(
    "responses",
    (
        "/id",
        "/created_at",
        "/completed_at",
        "/timings",
        "/output/*/id",
        "/output/*/call_id",
        "/output/*/encrypted_content",
        "/usage/input_tokens_details/cached_tokens",
    ),
    text=True,
)
OLLAMA: Final = Envelope(
    "ollama",
    (
        "/created_at",
        "/total_duration",
        "/load_duration",
        "/prompt_eval_duration",
        "/eval_duration",
        "/message/tool_calls/*/id",
    ),
    text=True,
)
GEMINI: Final = Envelope("gemini", ("/responseId", "/createTime", "/usageMetadata/cachedContentTokenCount"), text=True)
CONVERSE: Final = Envelope(
    "converse",
    (
        "/metrics/latencyMs",
        "/output/message/content/*/toolUse/toolUseId",
        "/output/message/content/*/reasoningContent/reasoningText/signature",
        "/usage/cacheReadInputTokens",
        "/usage/cacheWriteInputTokens",
        "/usage/cacheDetails",
    ),
    text=True,
)
OPEN_INFERENCE: Final = Envelope("open inference", ("/id",), echoed="/id")
PREDICTIONS: Final = Envelope("predictions")
COLUMNS: Final = Envelope("columns")
SELDON: Final = Envelope("seldon", ("/meta/puid",), echoed="/meta/puid")
SELDON_TENSOR: Final = Envelope("seldon tensor", ("/meta/puid",), echoed="/meta/puid")
LIST: Final = Envelope("list", ("/id", "/created", "/data/*/encoding_format"))
GRADIO: Final = Envelope("gradio", ("/event_id",))
GRADIO_OUTPUTS: Final = Envelope("gradio outputs", ("/duration", "/average_duration"))

ENVELOPES: Final = (
    CHAT, MESSAGES, RESPONSES, OLLAMA, GEMINI, CONVERSE, OPEN_INFERENCE, PREDICTIONS, COLUMNS, SELDON, SELDON_TENSOR,
    LIST, GRADIO, GRADIO_OUTPUTS,
)  # fmt: skip


def envelope_of(value: Any) -> Envelope | None:
    """The envelope of an answer's JSON; None if it is not a known one. Its time does not grow with the answer."""
    if type(value) is not dict:
        return None
    if "choices" in value:
        return CHAT if _is_chat(value) else None
    if "predictions" in value:
        return PREDICTIONS
    if "outputs" in value:
        return _of_outputs(value["outputs"])
    if "data" in value:
        return _of_data(value)
    kind = value.get("type")
    if kind == "message":
        return MESSAGES if isinstance(value.get("content"), list) else None
    if value.get("object") == "response":
        return RESPONSES if isinstance(value.get("output"), list) else None
    if isinstance(value.get("done"), bool):
        return OLLAMA if isinstance(value.get("message"), dict) or isinstance(value.get("response"), str) else None
    if "candidates" in value:
        first = _first(value["candidates"])
        return GEMINI if "content" in first or "finishReason" in first else None
    if "stopReason" in value:
        output = value.get("output")
        return CONVERSE if isinstance(output, dict) and isinstance(output.get("message"), dict) else None
    return GRADIO if len(value) == 1 and isinstance(value.get("event_id"), str) else None


def _first(values: Any) -> dict[str, Any]:
    """The first element of a list, if it is an object; else an empty one."""
    first = values[0] if isinstance(values, list) and values else None
    return first if isinstance(first, dict) else {}


def _is_chat(value: dict[str, Any]) -> bool:
    """A text alone is not enough: the choices may be those of a question, and the `id` beside them the answer."""
    first = _first(value["choices"])
    if isinstance(first.get("message"), dict) or "finish_reason" in first:
        return True
    return isinstance(first.get("text"), str) and (value.get("object") == "text_completion" or "usage" in value)


def _of_outputs(outputs: Any) -> Envelope | None:
    first = _first(outputs)
    if "datatype" in first and "name" in first:
        return OPEN_INFERENCE
    return COLUMNS if isinstance(outputs, list) and outputs and not first else None


def _of_data(value: dict[str, Any]) -> Envelope | None:
    data = value["data"]
    if isinstance(data, dict):
        if "ndarray" in data:
            return SELDON
        return SELDON_TENSOR if isinstance(data.get("tensor"), dict) else None
    if not isinstance(data, list):
        return None
    if value.get("object") == "list":
        return LIST
    return GRADIO_OUTPUTS if "is_generating" in value and "average_duration" in value else None


def set_aside_in(envelope: Envelope, request: Any) -> tuple[str, ...]:
    """The patterns of the places that are generated for every call in this envelope's answers to a request.

    `request` is the value of the request's body; None if it is not JSON.
    """
    echoed = envelope.echoed
    if echoed is None or not _has(request, echoed):
        return envelope.set_aside
    return tuple([each for each in envelope.set_aside if each != echoed])


def _has(request: Any, pointer: str) -> bool:
    """Whether a request has a value at a place: then the server copies it, and a difference is one."""
    value = request
    for name in pointer[1:].split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None and value != ""
