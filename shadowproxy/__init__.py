"""shadowproxy: ask a new model the same requests as the live one, without the caller noticing."""

__version__ = "0.1.0"


def compiled() -> bool:
    """Whether the modules that every request passes through are machine code here: hatch_build.py compiles them.

    It asks what an import would find, and imports none of them: the version is told before any other module is loaded.
    """
    from importlib.machinery import ExtensionFileLoader, PathFinder

    found = PathFinder.find_spec("shadowproxy.exchange", __path__)
    return found is not None and isinstance(found.loader, ExtensionFileLoader)


def version_text() -> str:
    """The version as a person is told it."""
    return f"{__version__} (compiled)" if compiled() else __version__
