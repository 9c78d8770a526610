"""Moments of the standing verdict as text, in the form of the records' own."""

from datetime import UTC, datetime


def text_of(seconds: float) -> str:
    """A time as records have theirs, so that the two compare as text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def shown(seconds: float) -> str:
    """A time to the second, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """Seconds of Unix time. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
