"""boto3 through the real program: Bedrock's and SageMaker's answers, whole and in event frames, compared.

The far side is a program of these tests, which writes what the real services write; boto3 checks each frame's sums.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from parties import installed, programs
from parties.comparing import Comparing, assert_same, comparing, differing, judged
from parties.language_models import called

pytestmark = pytest.mark.soak

SAME = "The flight is late because of the weather."
OTHER = "The flight is late because of its crew."
CALLS = {
    "converse": {"/output/message/content/0/text"},
    "converse_stream": {"/output/message/content/0/text"},
    "invoke_model": {"/content/0/text"},
    "invoke_model_with_response_stream": {"/content/0/text"},
    "invoke_endpoint_with_response_stream": {"/6/token/text", "/7/token/text"},
}
"""What boto3 calls, and where the two answers then differ."""


@contextmanager
def runtimes(directory: Path, *live: str, shadow: str) -> Iterator[Comparing]:
    """The proxy between two runtimes with what they say, and how."""
    installed.check()
    command = [str(installed.python("sdks")), str(installed.SOURCE / "event_frames.py"), "serve"]
    with ExitStack() as stack:
        one = stack.enter_context(programs.started([*command, *live], directory / "live.txt"))
        other = stack.enter_context(programs.started([*command, shadow], directory / "shadow.txt"))
        yield stack.enter_context(comparing(directory / "proxy", one.url, other.url))


def by_boto3(url: str, times: int, *calls: str) -> int:
    """How many answers boto3 read."""
    return len(called(installed.python("sdks"), "event_frames.py", "ask", url, str(times), *calls))


def test_the_same_words_match_in_other_pieces_and_with_other_padding(tmp_path: Path) -> None:
    with runtimes(tmp_path, SAME, shadow=SAME) as running:
        answers = by_boto3(running.url, 5, *CALLS)
        compared = running.outcome()
    assert answers == 5 * len(CALLS)
    assert_same(compared, answers)


def test_other_words_differ_at_their_place(tmp_path: Path) -> None:
    with runtimes(tmp_path, SAME, shadow=OTHER) as running:
        answers = by_boto3(running.url, 2, *CALLS)
        compared = running.outcome()
    assert len(compared.records) == answers == 2 * len(CALLS)
    found = [set(differing(entry)) for entry in compared.records]
    assert sorted(map(sorted, found)) == sorted(map(sorted, [*CALLS.values()] * 2))


def test_a_stream_that_ends_within_a_frame_has_failed_though_boto3_takes_it_for_whole(tmp_path: Path) -> None:
    with runtimes(tmp_path, SAME, "cut", shadow=SAME) as running:
        assert by_boto3(running.url, 2, "converse_stream") == 2
        compared = running.outcome()
    assert len(compared.records) == 2
    for entry in compared.records:
        (difference,) = judged(entry).differences
        assert (difference.path, difference.kind) == ("", "failed")
        assert "its last frame is cut" in str(entry.live.failed)
