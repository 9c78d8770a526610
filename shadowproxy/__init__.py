"""shadowproxy: send copies of live requests to new models and compare the answers, without the caller noticing."""

TYPE_CHECKING = False  # type checkers take it for True; typing itself is not imported, as it takes milliseconds
if TYPE_CHECKING:
    from shadowproxy.export.log import read_log as read_log
    from shadowproxy.incode.errors import Mismatch as Mismatch
    from shadowproxy.incode.errors import ShadowError as ShadowError
    from shadowproxy.incode.shadow import Shadow as Shadow

__version__ = "0.2.0"

_LAZY = {
    "read_log": "shadowproxy.export.log",
    "Mismatch": "shadowproxy.incode.errors",
    "Shadow": "shadowproxy.incode.shadow",
    "ShadowError": "shadowproxy.incode.errors",
}
"""What users import from here, and the module that has it: it is imported once it is asked for."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def compiled() -> bool:
    """Whether the modules that every request passes through are machine code here: hatch_build.py compiles them.

    Looks up what an import would find, and imports nothing: `--version` is answered before any other module is loaded.
    """
    from importlib.machinery import ExtensionFileLoader, PathFinder

    found = PathFinder.find_spec("shadowproxy.exchange", __path__)
    return found is not None and isinstance(found.loader, ExtensionFileLoader)


def version_text() -> str:
    """The version as `--version` prints it."""
    return f"{__version__} (compiled)" if compiled() else __version__
