"""Why the bytes of a format are not read."""


class FormatError(Exception):
    """The bytes are not read. The text is one short phrase."""


class Malformed(FormatError):
    """The bytes are not what their format asks for: cut short, or never right."""


class Unsupported(FormatError):
    """The bytes may be right, but nothing here reads this kind of them."""
