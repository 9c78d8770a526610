"""Imports what libraries import only when they first need it: before callers are let in, who may take all descriptors.

An import that finds none left fails as if the module were not there, and for good: once it ended the program while it
started. tests/test_preloaded.py has every kind of work done, and finds whatever is missing here.
"""

import importlib

EVERYWHERE = (
    "encodings.idna",  # of the name of a host, by the socket module
    "stringprep",  # by encodings.idna
    "encodings.latin_1",
    "encodings.ascii",
    "encodings.utf_8_sig",
)
ADMIN = (
    "shadowproxy.serve.admin.app",
    "shadowproxy.serve.admin.page",
    "anyio._backends._asyncio",  # of which Starlette runs on which event loop
)


def preload(*, admin: bool) -> None:
    """`admin`: for the admin server too."""
    for name in (*EVERYWHERE, *(ADMIN if admin else ())):
        importlib.import_module(name)
