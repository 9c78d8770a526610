"""Logs in object stores: a report of them is that of the same files here, and what is missing is one line."""

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from object_stores import SECRET, ObjectStore, object_store, use
from test_engines import log

from shadowproxy import cli
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.labels import read_labels
from shadowproxy.compare.fold.summary import save
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.lines import lines
from shadowproxy.selftest.sample import draw_sample
from shadowproxy.sources import sources_of
from shadowproxy.stores import opening
from shadowproxy.stores.addresses import AddressError, address_of, local_path, shown
from shadowproxy.stores.faults import ACCOUNT, CREDENTIALS, fault
from shadowproxy.stores.reading import open_object

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store() as store:
        use(store, monkeypatch)
        yield store


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shadowproxy", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def both(tmp_path: Path, store: ObjectStore) -> Path:
    """The same log here and below `s3://bucket/logs/`, with partitions and with files that are no segments."""
    files = {
        "dt=2026-11-28/a.jsonl.zst": zstandard.compress(log(0, 40)),
        "dt=2026-11-28/b.jsonl.gz": gzip.compress(log(40, 40)),
        "dt=2026-11-29/c.jsonl": log(80, 40) + b'{"torn',
        "dt=2026-11-29/other.txt": b"no log",
        "dt=2026-11-29/.hidden/d.jsonl": log(120, 20),
        "dt=2026-12-01/e.jsonl": log(160, 20),
        "last.jsonl": log(120, 40),
        "last.judged.jsonl": b"what a judge said\n",
        "old/f.jsonl": log(200, 20),
    }
    for name, content in files.items():
        (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / name).write_bytes(content)
        store.objects[f"logs/{name}"] = content
    return tmp_path


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("logs", ["last.jsonl", "a.jsonl.zst", "b.jsonl.gz", "c.jsonl", "e.jsonl"]),
        ("logs/", ["last.jsonl", "a.jsonl.zst", "b.jsonl.gz", "c.jsonl", "e.jsonl"]),
        ("logs/dt=2026-11-*/", ["a.jsonl.zst", "b.jsonl.gz", "c.jsonl"]),
        ("logs/dt=2026-11-2[89]/*.jsonl*", ["a.jsonl.zst", "b.jsonl.gz", "c.jsonl"]),
        ("logs/*/c.jsonl", ["c.jsonl"]),
        ("logs/**/*.jsonl", ["c.jsonl", "e.jsonl", "last.jsonl", "f.jsonl"]),
        ("logs/dt=2026-11-28/a.jsonl.zst", ["a.jsonl.zst"]),
    ],
)
def test_a_place_stands_for_the_same_files_in_a_store_as_on_this_machine(
    both: Path, place: str, names: list[str]
) -> None:
    def found(root: str, above: str) -> list[str]:
        return [each.path.removeprefix(above) for each in sources_of(f"{root}/{place}")]

    stored = found("s3://bucket", "s3://bucket")
    assert stored == found(str(both), str(both)) == found(f"file://{both}", str(both))
    assert [name.rpartition("/")[2] for name in stored] == names


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/"])
def test_a_bucket_is_a_folder(store: ObjectStore, place: str) -> None:
    store.objects |= {"a.jsonl": log(0, 1), "dt=2026-11-29/b.jsonl": log(1, 1), "other/c.jsonl": log(2, 1)}
    assert [each.path for each in sources_of(place)] == ["s3://bucket/a.jsonl", "s3://bucket/dt=2026-11-29/b.jsonl"]


@pytest.mark.parametrize("command", ["report --json", "summarise"])
def test_a_log_in_a_store_gives_what_the_same_log_gives_here(both: Path, run: Run, command: str) -> None:
    code, here, err = run(*command.split(), both / "logs")
    assert here, err
    assert (code, here) == run(*command.split(), "s3://bucket/logs/")[:2]


def test_faults_are_planted_in_the_same_records_of_a_store(both: Path) -> None:
    assert draw_sample(["s3://bucket/logs/"]) == draw_sample([both / "logs"])


def test_a_record_is_shown_from_a_store(both: Path, run: Run) -> None:
    assert "id-90" in run("show", "s3://bucket/logs/dt=2026-11-*/", "id-90")[1]


def test_a_web_servers_file_is_read_with_its_query_and_its_user(both: Path, store: ObjectStore, run: Run) -> None:
    host = store.url.removeprefix("http://")
    address = f"http://me:pass%20word@{host}/bucket/logs/dt=2026-11-28/a.jsonl.zst?X-Amz-Signature=a%2Fb"
    assert save(summarise_files([address], Rules())) == save(
        summarise_files([both / "logs/dt=2026-11-28/a.jsonl.zst"], Rules())
    )
    assert store.requests[-1] == ("GET", "/bucket/logs/dt=2026-11-28/a.jsonl.zst?X-Amz-Signature=a%2Fb")
    assert store.headers[-1]["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    store.objects.clear()
    code, out, err = run("report", address)
    assert (code, out) == (2, "")
    assert err == (
        f"shadowproxy: cannot read http://{host}/bucket/logs/dt=2026-11-28/a.jsonl.zst: there is no such object\n"
    )


@pytest.mark.parametrize("ranges", [True, False])
def test_reading_goes_on_where_a_connection_broke(store: ObjectStore, ranges: bool) -> None:
    content = bytes(range(256)) * 30_000
    store.objects["x"] = content
    store.cut, store.cut_after, store.ranges = (8, 700_000, True) if ranges else (1, 3_000_000, False)
    with open_object(address_of("s3://bucket/x")) as file:
        assert file.read() == content
    starts = [int(each["range"][6:].partition("-")[0]) for each in store.headers if "range" in each]
    assert starts[0] in (700_000, 3_000_000)
    assert not ranges or (
        starts == sorted(set(starts)) and all(start <= 700_000 * n for n, start in enumerate(starts, 1))
    )


def test_an_object_that_was_replaced_meanwhile_is_no_longer_read(store: ObjectStore) -> None:
    store.objects["x"] = bytes(3_000_000)
    store.cut, store.cut_after = 1, 2_000_000
    with open_object(address_of("s3://bucket/x")) as file:
        file.read(1000)
        store.objects["x"] = bytes(4_000_000)
        with pytest.raises(OSError, match="it was replaced while it was read"):
            file.read()


def test_a_connection_that_always_breaks_is_an_error_at_last(store: ObjectStore) -> None:
    store.objects["x"] = bytes(3_000_000)
    store.cut, store.cut_after = 1000, 0
    with open_object(address_of("s3://bucket/x")) as file, pytest.raises(OSError, match="broke again and again"):
        file.read()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://bucket/nowhere/", "there is no such object or folder"),
        ("s3://bucket/nowhere.jsonl", "there is no such object or folder"),
        ("s3://bucket/logs/dt=2030-*/", "nothing matches it"),
        ("s3://bucket/empty/", "there are no segments in it (.jsonl, .jsonl.zst, .jsonl.gz)"),
        ("s3:///logs", "an address needs a bucket, as in s3://bucket/folder/"),
        (
            "ftp://host/logs",
            "not a kind of address that can be read; known are s3://, gs://, az://, file:// and https://",
        ),
        ("file://host/logs", "a file:// address needs a path from the root, as in file:///var/log/shadow"),
    ],
)
@pytest.mark.parametrize("command", ["report", "show"])
def test_a_place_without_a_log_is_one_line_that_says_what_was_looked_for(
    both: Path, store: ObjectStore, run: Run, command: str, place: str, said: str
) -> None:
    store.objects["empty/README"] = b""
    words = (command, place, *(["id-1"] if command == "show" else []))
    assert run(*words) == (2, "", f"shadowproxy: cannot read {place}: {said}\n")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "the store refuses access (403 AccessDenied)"),
        (500, "the store answers 500 AccessDenied"),
        (301, "the bucket is in another region; set AWS_REGION"),
    ],
)
def test_a_store_that_refuses_is_one_line_without_what_it_said(
    both: Path, store: ObjectStore, run: Run, status: int, said: str
) -> None:
    store.status = status
    for words in (
        ("report", "s3://bucket/logs/"),
        ("report", "s3://bucket/logs/dt=*/"),
        ("replay", "s3://bucket/logs/", "--to", "http://127.0.0.1:1", "-o", str(both / "again")),
        ("judge", "s3://bucket/logs/", "--to", "http://127.0.0.1:1/v1", "--model", "m", "--out", str(both / "j")),
        ("selftest", "s3://bucket/logs/"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), words
        what = "read or write" if words[0] == "judge" else "read"
        assert err == f"shadowproxy: cannot {what} {words[1]}: {said}\n"
        assert SECRET not in err


def test_a_store_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, run: Run) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    line = "shadowproxy: cannot read s3://bucket/logs/: the store cannot be reached\n"
    assert run("report", "s3://bucket/logs/") == (2, "", line)


def test_without_the_extra_the_line_names_it(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    line = f"shadowproxy: cannot read s3://bucket/logs/: {opening.EXTRA}\n"
    assert run("report", "s3://bucket/logs/") == (2, "", line)
    assert "shadowproxy-sidecar[fleet]" in line


def test_a_log_in_a_store_cannot_be_followed(run: Run) -> None:
    line = "shadowproxy: cannot read s3://bucket/logs/: a log in a store does not grow; show and report read it\n"
    assert run("tail", "s3://bucket/logs/") == (2, "", line)


def test_labels_and_preferences_are_read_from_a_store(both: Path, store: ObjectStore, run: Run) -> None:
    labels = "id,label\n" + "".join(f"id-{n},{'ab'[n % 2]}\n" for n in range(160))
    (both / "labels.csv").write_text(labels)
    store.objects["labels.csv.gz"] = gzip.compress(labels.encode())
    assert read_labels("s3://bucket/labels.csv.gz") == read_labels(both / "labels.csv")
    here = run("report", both / "logs", "--labels", both / "labels.csv", "--json")
    assert here == run("report", "s3://bucket/logs", "--labels", "s3://bucket/labels.csv.gz", "--json")
    assert run("report", both / "logs", "--judged", "s3://bucket/gone")[2] == (
        "shadowproxy: cannot read s3://bucket/gone: there is no such object\n"
    )


def test_labels_are_joined_to_the_answers_beside_a_summary_in_a_store(
    both: Path, store: ObjectStore, run: Run, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n" + "".join(f"id-{n},{'ab'[n % 2]}\n" for n in range(160)))
    run("summarise", both / "logs", "-o", tmp_path / "pod.json", "--keep-answers")
    store.objects |= {f"sums/{name}": (tmp_path / name).read_bytes() for name in ("pod.json", "pod.answers.zst")}
    here = run("report", tmp_path / "pod.json", "--labels", labels, "--json")
    assert here == run("report", "s3://bucket/sums/pod.json", "--labels", labels, "--json")
    assert here[:2] == run("report", "s3://bucket/sums/*", "--labels", labels, "--json")[:2]


@pytest.mark.slow
def test_several_processes_read_a_store(both: Path, store: ObjectStore) -> None:
    assert save(summarise_files(["s3://bucket/logs/"], Rules(), jobs=2)) == save(
        summarise_files([both / "logs"], Rules())
    )


def test_an_object_is_never_whole_in_memory(store: ObjectStore) -> None:
    store.objects["big.jsonl"] = b"x" * 99 + b"\n"
    store.objects["big.jsonl"] *= 80_000
    with open_object(address_of("s3://bucket/big.jsonl")) as file:
        assert max(map(len, iter(lambda: file.read1(1 << 22), b""))) <= 3 << 20  # type: ignore[attr-defined]
    assert sum(1 for _ in lines(["s3://bucket/big.jsonl"])) == 80_000


@pytest.mark.parametrize(
    ("text", "kind", "bucket", "key", "shown_as"),
    [
        ("s3://b/a b/*.jsonl", "s3", "b", "a b/*.jsonl", "s3://b/a b/*.jsonl"),
        ("S3A://b", "s3", "b", "", "S3A://b/"),
        ("gs://b/k?", "gs", "b", "k?", "gs://b/k?"),
        ("az://c/k", "az", "c", "k", "az://c/k"),
        ("abfss://c@acc.dfs.core.windows.net/k", "az", "c", "k", "abfss://c@acc.dfs.core.windows.net/k"),
        ("https://u:p@h:8/a/b.jsonl?sig=1#f", "http", "h:8", "", "https://h:8/a/b.jsonl"),
    ],
)
def test_addresses(text: str, kind: str, bucket: str, key: str, shown_as: str) -> None:
    address = address_of(text)
    assert (address.kind, address.bucket, address.key, address.shown) == (kind, bucket, key, shown_as)
    assert shown(text) == shown_as
    assert address_of(address.text) == address


@pytest.mark.parametrize(
    "text", ["s3://", "s3://user:secret@b/k", "gs:///k", "https://", "https://u:secret@/k", "x://"]
)
def test_what_names_nothing_is_refused_and_shows_no_secret(text: str) -> None:
    with pytest.raises(AddressError) as raised:
        address_of(text)
    assert "secret" not in str(raised.value) + shown(text)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            "Generic GCS error: Error performing token request: Error performing GET http://169.254.169.254/x",
            CREDENTIALS,
        ),
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token", CREDENTIALS),
        ("Generic MicrosoftAzure error: Account must be specified", ACCOUNT),
        (
            "Generic S3 error: Error performing GET https://credential-msi.s3/oauth2/latest/x - "
            "Server returned non-2xx status code: 503 Slow Down: ",
            "the store answers 503",
        ),
        ("Generic S3 error: boom\nsource: TimedOut", "the store does not answer in time"),
        ("boom https://user:secret@host/?sig=1", "the store's client failed (Exception)"),
    ],
)
def test_what_the_client_says_is_one_sentence_of_ours(raised: str, said: str) -> None:
    assert fault(Exception(raised), "s3://b/k").strerror == said


def test_a_file_address_is_a_path() -> None:
    assert local_path("file:///a%20b/c") == local_path("file://localhost/a%20b/c") == "/a b/c"
    assert local_path("/a") is None


def test_keys_of_a_profile_are_used_where_the_environment_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = A\naws_secret_access_key = B\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    for name in (*opening._OWN, "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert opening._profile() == {"access_key_id": "A", "secret_access_key": "B", "region": "eu-west-1"}
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert opening._profile() == {}


def test_an_object_that_is_read_is_not_written_over(run: Run, both: Path, store: ObjectStore) -> None:
    before = dict(store.objects)
    for log_ in ("s3://bucket/logs/last.jsonl", "s3://bucket/logs/", "s3://bucket/logs/*.jsonl"):
        status, _, error = run("export", log_, "-o", "s3://bucket/logs/last.jsonl")
        assert status == 2
        assert error == "shadowproxy: s3://bucket/logs/last.jsonl is one of the files to read\n"
    assert store.objects == before
