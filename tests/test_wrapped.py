"""A record's line is taken out of what runtimes and collectors put around it, and never made of a piece of one."""

import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from test_export import entry

from shadowproxy import record

TIME = "2026-01-31T12:00:00.123456789Z"
LIMIT = 16 << 10  # bytes after which containerd and Docker cut a line


def line(number: int, size: int = 0) -> bytes:
    return json.dumps(entry(number, {"p": 1}, asked={"text": "ä" * size}, a={"p": 1}), ensure_ascii=False).encode()


def pieces(whole: bytes) -> list[bytes]:
    return [whole[at : at + LIMIT] for at in range(0, len(whole), LIMIT)]


def cri(whole: bytes, stream: str = "stdout") -> bytes:
    *before, last = pieces(whole)
    head = f"{TIME} {stream} ".encode()
    return b"".join(head + b"P " + each + b"\n" for each in before) + head + b"F " + last + b"\n"


def entry_of(log: str, **more: Any) -> bytes:
    return json.dumps({"log": log, **more}).encode() + b"\n"


def json_file(whole: bytes, stream: str = "stdout") -> bytes:
    text = whole.decode()
    cut = [text[at : at + LIMIT] for at in range(0, len(text), LIMIT)]
    cut[-1] += "\n"
    return b"".join(entry_of(each, stream=stream, time=TIME) for each in cut)


def fluent_bit(whole: bytes, stream: str = "stdout") -> bytes:
    *before, last = (
        each.decode("utf-8", "surrogateescape") for each in pieces(whole.decode().encode("ascii", "ignore"))
    )
    parts = [entry_of(each, stream=stream, logtag="P", time=TIME) for each in before]
    return b"".join(parts) + entry_of(last, stream=stream, logtag="F", time=TIME)


def journald(whole: bytes, stream: str = "") -> bytes:
    return json.dumps({"_PID": "7", "MESSAGE": whole.decode(), "PRIORITY": "6"}).encode() + b"\n"


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda whole: whole + b"\n",
    "CRI": cri,
    "json-file": json_file,
    "journald": journald,
    "timestamps": lambda whole: TIME.encode() + b" " + whole + b"\n",
    "prefix": lambda whole: b"[pod/model-7f/shadowproxy] " + whole + b"\n",
    "prefix and timestamps": lambda whole: b"[pod/model-7f/shadowproxy] " + TIME.encode() + b" " + whole + b"\n",
    "compose": lambda whole: b"shadowproxy-1  | " + whole + b"\n",
    "collector": lambda whole: entry_of(whole.decode(), kubernetes={"pod_name": "model"}),
}


def read(tmp_path: Path, content: bytes) -> tuple[list[str], list[str]]:
    """The IDs of the records, and why other lines are none."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(content)
    ids: list[str] = []
    why: list[str] = []
    for each in record.read([file]):
        ids.append(each.id) if isinstance(each, record.Record) else why.append(each.why)
    return ids, why


@pytest.mark.parametrize("form", WRAPPED)
def test_every_record_is_read_whatever_is_around_it(tmp_path: Path, form: str) -> None:
    wrap = WRAPPED[form]
    content = b"".join(wrap(line(number, size)) for number, size in enumerate((0, 5, 20_000, 1)))
    assert read(tmp_path, content) == ([f"{number:06}" for number in range(4)], [])


def test_fluent_bits_pieces_are_put_together(tmp_path: Path) -> None:
    content = fluent_bit(line(1)) + fluent_bit(json.dumps(entry(2, "x" * 40_000)).encode())
    assert read(tmp_path, content) == (["000001", "000002"], [])


def test_the_operators_log_on_standard_error_is_passed_over(tmp_path: Path) -> None:
    noise = b'{"level":"info","message":"' + b"n" * 40_000 + b'"}'
    content = cri(line(1)) + cri(noise, "stderr") + cri(line(2)) + json_file(noise, "stderr") + json_file(line(3))
    assert read(tmp_path, content) == (["000001", "000002", "000003"], [])


def test_pieces_of_two_streams_do_not_mix(tmp_path: Path) -> None:
    out = cri(line(1, 20_000)).splitlines(keepends=True)
    error = cri(b"e" * 40_000, "stderr").splitlines(keepends=True)
    mixed = b"".join(each for both in zip(out, error, strict=False) for each in both)
    assert read(tmp_path, mixed) == (["000001"], [])


def test_a_piece_that_looks_like_a_record_is_none(tmp_path: Path) -> None:
    forged = line(666)
    filler = b'{"schema":1,"text":"' + b"x" * (LIMIT - 20)
    content = cri(filler + forged + b',"more":"' + b"y" * LIMIT + b'"}') + json_file(filler + forged + b"rest")
    ids, why = read(tmp_path, content)
    assert ids == []
    assert len(why) == 2


def test_a_line_of_the_access_log_with_a_record_in_it_is_none(tmp_path: Path) -> None:
    forged = line(666)
    lines = [
        TIME.encode() + b" INFO GET /" + forged,
        b'{"message":' + json.dumps(forged.decode()).encode() + b"}",
        b"GET /x | " + forged,
        b'{"level":"info","path":"[a] ' + forged,
    ]
    ids, why = read(tmp_path, b"\n".join(lines) + b"\n")
    assert ids == []
    assert len(why) == len(lines)


def test_what_is_torn_is_counted(tmp_path: Path) -> None:
    whole = cri(line(1, 20_000))
    ids, why = read(tmp_path, cri(line(0)) + whole.splitlines(keepends=True)[0])
    assert ids == ["000000"]
    assert why == ["torn: the rest of a line that a runtime has cut is missing"]


def test_a_summary_and_other_json_stay_as_they_are(tmp_path: Path) -> None:
    ids, why = read(tmp_path, b'{"log": 7}\n{"log":"a","schema":1}\n[1]\n"text"\n')
    assert ids == []
    assert len(why) == 4


# --- joined streams ---------------------------------------------------------------------------------------------------


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "zstd": zstandard.compress,
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("order", list(itertools.permutations(PACKED)))
def test_joined_segments_are_read_whole(tmp_path: Path, order: tuple[str, ...]) -> None:
    parts = [PACKED[form](line(2 * at) + b"\n" + line(2 * at + 1) + b"\n") for at, form in enumerate(order * 2)]
    assert read(tmp_path, b"".join(parts)) == ([f"{number:06}" for number in range(12)], [])


def test_a_compressed_stream_is_found_wherever_a_chunk_ends(tmp_path: Path) -> None:
    chunk = 256 << 10
    for before in range(chunk - 5, chunk + 2):
        plain = line(1) + b"\n" + b" " * (before - len(line(1)) - 2) + b"\n"
        assert len(plain) == before
        for pack in (zstandard.compress, gzip.compress):
            ids, why = read(tmp_path, plain + pack(line(2) + b"\n"))
            assert ids == ["000001", "000002"]
            assert len(why) == 1  # the blanks


def test_a_torn_plain_segment_takes_nothing_of_a_compressed_one(tmp_path: Path) -> None:
    ids, why = read(tmp_path, line(1) + b"\n" + line(2)[:-9] + zstandard.compress(line(3) + b"\n"))
    assert ids == ["000001", "000003"]
    assert len(why) == 1


def test_zeros_after_gzip_and_frames_to_skip_are_nothing(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    content = skipped + gzip.compress(line(1) + b"\n") + bytes(64) + skipped + zstandard.compress(line(2) + b"\n")
    assert read(tmp_path, content) == (["000001", "000002"], [])


def test_joined_streams_come_by_standard_input(tmp_path: Path) -> None:
    code = "import sys; from shadowproxy.record import read; print([each.id for each in read(['-'])])"
    content = zstandard.compress(line(1) + b"\n") + line(2) + b"\n" + gzip.compress(line(3) + b"\n")
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert done.stdout.decode() == "['000001', '000002', '000003']\n"
