"""Images, sounds and other files: known by their first bytes, compared by size and SHA-256.

Source: the registrations of these media types; the WHATWG's MIME Sniffing standard, section 6, has most of the
patterns.
"""

from typing import Final

_PATTERNS: Final = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"),
    (b"AVI ", 8, "video/avi"),
    (b"ftypavif", 4, "image/avif"),
    (b"ftypheic", 4, "image/heic"),
    (b"ftypM4A", 4, "audio/mp4"),
    (b"ftyp", 4, "video/mp4"),
    (b"OggS\0", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"ID3", 0, "audio/mpeg"),
    (b"\xff\xfb", 0, "audio/mpeg"),
    (b"\xff\xf3", 0, "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
    (b"BM", 0, "image/bmp"),
    (b"II*\0", 0, "image/tiff"),
    (b"MM\0*", 0, "image/tiff"),
    (b"%PDF-", 0, "application/pdf"),
    (b"PK\x03\x04", 0, "application/zip"),
)

_RIFF: Final = frozenset({"image/webp", "audio/wav", "video/avi"})
_SHORT: Final = 4  # bytes of a pattern that are too few to tell a type without its being named
_SAME: Final = {
    "image/jpg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-flac": "audio/flac",
    "audio/opus": "audio/ogg",
    "video/ogg": "audio/ogg",
    "application/ogg": "audio/ogg",
    "image/x-ms-bmp": "image/bmp",
    "audio/x-m4a": "audio/mp4",
    "audio/webm": "video/webm",
}


def media_of(raw: bytes, named: str) -> str | None:
    """The media type of some bytes that are no text; None if they show none. `named` is the one that they come under.

    Two bytes are a sign only of what they are said to be.
    """
    said = _SAME.get(named, named)
    for pattern, at, media in _PATTERNS:
        if raw[at : at + len(pattern)] != pattern or (media in _RIFF and raw[:4] != b"RIFF"):
            continue
        if len(pattern) >= _SHORT or said == media or said.partition("/")[0] == media.partition("/")[0]:
            return media
    return None


def names_media(named: str) -> bool:
    """Whether a media type is one of files that nothing here reads."""
    return named.partition("/")[0] in ("image", "audio", "video", "font") and not named.endswith(("+json", "+xml"))


def agrees(media: str, named: str) -> bool:
    """Whether bytes of a media type may come under the name of another, or of none."""
    return not names_media(named) or _SAME.get(named, named) == media
