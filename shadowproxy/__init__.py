"""shadowproxy: ask a new model the same requests as the live one, without the caller noticing."""

__version__ = "0.1.0"
