"""shadowproxy: send copies of live requests to new models and compare the answers, without the caller noticing."""

__version__ = "0.1.0"


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
