"""Go's own tests of its ReverseProxy, as the installed Go ships them, with the real program in its place."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parties import installed

pytestmark = pytest.mark.soak

FRONTEND = installed.SOURCE / "reverseproxy" / "frontend_test.go"

TESTS = (
    "TestReverseProxy",
    "TestXForwardedFor",
    "TestReverseProxyFlushInterval",
    "TestReverseProxyFlushIntervalHeaders",
    "TestReverseProxyCancellation",
    "TestUserAgentHeader",
    "TestReverseProxy_Post",
    "TestReverseProxy_PanicClosesIncomingBody",
    "TestUnannouncedTrailer",
    "TestReverseProxyQueryParameterSmugglingDirectorDoesNotParseForm",
)
"""Those whose proxy does what any proxy does. The others set what only Go's API can (`Director`, `ModifyResponse`)."""

OWN_HOP_FIELD = 'w.Header().Set(fakeHopHeader, "foo")'
"""The tests add a field of theirs to Go's list of fields for one hop."""


def adapted(source: str) -> str:
    """The tests, with a process of shadowproxy instead of a server for the proxy."""
    source, served = re.subn(
        r"frontend := httptest\.NewServer\(proxyHandler\)", "frontend := newFrontend(proxyHandler)", source
    )
    assert served >= len(TESTS) - 1, "this Go's tests start their proxy in another way"
    assert source.count(OWN_HOP_FIELD) == 1
    return source.replace(OWN_HOP_FIELD, "")


def test_gos_own_tests_of_its_reverse_proxy_pass(tmp_path: Path) -> None:
    go = shutil.which("go")
    assert go is not None, "the parties are not installed: `make soak` does it and runs these tests"
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    package = Path(root) / "src/net/http/httputil"
    tests = tmp_path / "reverseproxy_test.go"
    tests.write_text(adapted((package / "reverseproxy_test.go").read_text()))
    overlay = tmp_path / "overlay.json"
    replaced = {package / "reverseproxy_test.go": tests, package / FRONTEND.name: FRONTEND}
    overlay.write_text(json.dumps({"Replace": {str(place): str(file) for place, file in replaced.items()}}))
    ran = subprocess.run(
        [
            go,
            "test",
            "-overlay",
            overlay,
            "-vet=off",
            "-count=1",
            "-v",
            f"-run=^({'|'.join(TESTS)})$",
            "net/http/httputil",
        ],
        env=installed.environment()
        | {"PARTIES_PYTHON": sys.executable, "GOTOOLCHAIN": "local", "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    assert re.findall(r"^--- (\w+): (\w+)", ran.stdout, re.MULTILINE) == [("PASS", name) for name in TESTS]
