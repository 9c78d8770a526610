"""Imports, before the first caller connects, the modules that libraries import only when they first need them.

Callers may take all descriptors, and an import that finds none left fails for good, as if the module did not exist:
this once ended the program during its start. tests/test_preloaded.py does every kind of work, and finds a module that
is missing here.
"""

import importlib

EVERYWHERE = (
    "encodings.idna",  # by the socket module, for host names
    "stringprep",  # by encodings.idna
    "encodings.latin_1",
    "encodings.ascii",
    "encodings.utf_8_sig",
)
BODIES = ("brotli", "zstandard")  # by content.py, which decodes
ADMIN = (
    "shadowproxy.serve.admin.app",
    "shadowproxy.serve.admin.page",
    "shadowproxy.serve.admin.receiving",
    "anyio._backends._asyncio",  # by Starlette, to find the event loop it runs on
    "uvicorn.lifespan.off",  # by uvicorn's Config
)


def preload(*, reads_bodies: bool, admin: bool = False) -> None:
    """`reads_bodies`: also what decodes bodies; `admin`: also the admin server's modules."""
    for name in (*EVERYWHERE, *(BODIES if reads_bodies else ()), *(ADMIN if admin else ())):
        importlib.import_module(name)
