"""Adding up saved summaries takes the memory of two, however many there are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_fold import SAYS, logged

from shadowproxy.compare.fold.summary import save, summarise
from shadowproxy.compare.judge.rules import Rules

COUNT = 60
MEGABYTES = 150
REPORT = """
import json, re, sys
from pathlib import Path
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.fold.summary import save
summary = summarise_files(sys.argv[2:], Rules(), jobs=int(sys.argv[1]))
# Not getrusage: its peak starts at that of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([summary.count, peak, len(save(summary))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_many_summaries_of_a_megabyte_add_up_in_bounded_memory(tmp_path: Path, jobs: int) -> None:
    """What is read is added to the sum and let go. The bound holds for a thousand: each is the size of the others."""
    parts = [(which, 500, 0) for which in range(len(SAYS))]
    saved = tmp_path / "one.json"
    saved.write_bytes(save(summarise(logged(parts), Rules())))
    count = len(logged(parts))
    assert saved.stat().st_size > 900_000
    words = [sys.executable, "-c", REPORT, str(jobs), *[str(saved)] * COUNT]
    told, peak, size = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    assert told == COUNT * count
    assert peak < MEGABYTES
    assert size < 2 * saved.stat().st_size
