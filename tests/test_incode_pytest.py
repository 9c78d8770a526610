"""The pytest plugin: it costs other tests nothing, and its fixture has the records of one test and of no other."""

import subprocess
import sys

from shadowproxy.incode import shadow
from shadowproxy.incode.shadow_log import ShadowLog


def test_the_plugin_imports_nothing_but_pytest() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import shadowproxy.incode.pytest_plugin\n"
        "found = set(sys.modules) - before\n"
        "assert found <= {'shadowproxy', 'shadowproxy.incode', 'shadowproxy.incode.pytest_plugin'}, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nobody_notes_records_without_the_fixture() -> None:
    before = list(shadow.noting)
    with ShadowLog() as log:
        assert repr(log) == "<ShadowLog of 0 exchanges>"
        assert log.records() == []
        assert len(shadow.noting) == len(before) + 1
    assert shadow.noting == before
