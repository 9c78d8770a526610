"""When the log's segments are closed, compressed and removed, and how much may wait to be written."""

from dataclasses import dataclass

from shadowproxy.serve.journal.segments import Compression


@dataclass(frozen=True, slots=True)
class Settings:
    """`rotate_size` and `keep_size` are bytes, `rotate_every` and `keep_age` seconds; None turns that limit off.

    `uploads`: closed segments are sent to a store, and kept until it has them.

    The journal takes no exchange while `queue_bytes` wait to be written, and no single exchange that is larger. The
    last one that it takes may pass the limit: an exchange whose bytes were held while it was under way is not lost for
    want of room for its last bytes.
    """

    rotate_size: int | None = 256 << 20
    rotate_every: float | None = 3600.0
    compress: Compression = "zstd"
    keep_size: int | None = 10 << 30
    keep_age: float | None = 30 * 86400.0
    queue_bytes: int = 64 << 20
    uploads: bool = False
