"""A pytest plugin: the fixture `shadow_log` has a test's records. It imports nothing more until a test asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shadowproxy.incode.shadow_log import ShadowLog


@pytest.fixture
def shadow_log() -> "Iterator[ShadowLog]":
    """The records of what this test has had mirrored, by any Shadow of this process.

    def test_the_new_model_agrees(shadow_log):
        score({"age": 42})
        [record] = shadow_log.records()
        assert record.shadows["gbm"].judgement.verdict == "match"
    """
    from shadowproxy.incode.shadow_log import ShadowLog

    with ShadowLog() as log:
        yield log
