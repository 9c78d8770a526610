"""How long the prompt of a request to a language model is, whatever the API."""

from typing import Any, Final

_PROMPTS: Final = (
    "messages",  # chat, Anthropic's Messages, Ollama, Bedrock's Converse
    "prompt",  # completions, Ollama's generate
    "input",  # Responses, embeddings
    "inputs",  # Hugging Face
    "contents",  # Gemini
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
)
_PARTS: Final = ("content", "text", "parts", "output")
"""Where texts are within a message. Others, such as a role, an ID or an image in base64, are no text of the prompt."""


def prompt_length(payload: Any) -> int | None:
    """The characters of all texts of a prompt; None for a request without one."""
    if not isinstance(payload, dict):
        return None
    waiting: list[Any] = [payload[name] for name in _PROMPTS if name in payload]
    length = 0
    found = False
    for value in waiting:
        if isinstance(value, str):
            length += len(value)
            found = True
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend([value[name] for name in _PARTS if name in value])
    return length if found else None
