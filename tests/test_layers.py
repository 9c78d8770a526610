"""Imports point one way: ARCHITECTURE.md shows the rooms in a picture and a table, and the source is held to both."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import commands_page
import modules as modules_page
import page_blocks
import pytest
import python_page

import shadowproxy

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "shadowproxy"
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \|[^|]*\|(.*)\|$", re.MULTILINE)
EVERYWHERE = {"", "__main__"}  # every module may import the version; `python -m` starts the program and is no room
HOUSES = {"serve", "compare"}  # these hold rooms, and nothing of their own
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
WORDS = [
    "caller", "live", "shadow", "endpoint", "exchange", "leg", "request", "response", "outcome", "verdict", "check",
    "lane", "ramp", "tunnel", "record", "log", "operator's log",
]  # fmt: skip
VERBS = [
    "receive", "forward", "capture", "offer", "mirror", "compare", "record", "report", "log", "reject", "shed", "retry",
    "close",
]  # fmt: skip


def layers() -> dict[str, set[str]]:
    """Each room of the table with the rooms that it may import."""
    return {room: set(re.findall(r"`([a-z0-9_.]+)`", allowed)) for room, allowed in ROW.findall(ARCHITECTURE)}


def picture() -> list[list[str]]:
    """The rooms on each line of the picture, from the top down."""
    (drawing,) = re.findall(r"## The rooms\n.*?```\n(.*?)```", ARCHITECTURE, re.DOTALL)
    return [line.split() for line in drawing.splitlines()]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."), path


def imports(source: str, names: set[str]) -> Iterator[str]:
    """The modules of the package that a source text imports, wherever in it, without the package's own name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "shadowproxy":
                    yield alias.name.removeprefix("shadowproxy").lstrip(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader and this test see where they point"
            if (node.module or "").split(".")[0] == "shadowproxy":
                base = (node.module or "").removeprefix("shadowproxy").lstrip(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".lstrip(".")
                    yield inner if inner in names else base


def room_of(module: str, rooms: dict[str, set[str]]) -> str | None:
    """The innermost room that the module is in."""
    fitting = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def trespasses(module: str, source: str, names: set[str], rooms: dict[str, set[str]]) -> list[str]:
    own = room_of(module, rooms)
    allowed = rooms.get(own or "", set())
    return [
        f"{module} imports {imported}"
        for imported in imports(source, names)
        if imported not in EVERYWHERE
        and room_of(imported, rooms) != own
        and not any(imported == room or imported.startswith(f"{room}.") for room in allowed)
    ]


ROOMS = layers()
NAMES = {name for name, _ in modules()}


def test_every_module_is_in_a_room_of_the_table() -> None:
    assert [name for name in NAMES - EVERYWHERE - HOUSES if room_of(name, ROOMS) is None] == []


def test_every_room_of_the_table_is_there() -> None:
    assert [room for room in ROOMS if room not in NAMES] == []


def test_every_import_is_one_that_the_table_allows() -> None:
    found = [
        line
        for name, path in modules()
        if name not in EVERYWHERE
        for line in trespasses(name, path.read_text(), NAMES, ROOMS)
    ]
    assert found == []


def test_every_permission_of_the_table_is_used() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name, path in modules():
        room = room_of(name, ROOMS)
        if room is not None:
            used[room] |= set(imports(path.read_text(), NAMES))
    unused = [
        f"{room} may import {allowed}, and does not"
        for room, permissions in ROOMS.items()
        for allowed in permissions
        if not any(module == allowed or module.startswith(f"{allowed}.") for module in used[room])
    ]
    assert unused == []


def test_no_room_can_import_itself_by_way_of_others() -> None:
    def reached(room: str, seen: frozenset[str]) -> None:
        assert room not in seen, f"{room} is in a circle"
        for allowed in ROOMS[room]:
            target = room_of(allowed, ROOMS)
            assert target is not None, f"{allowed} is no room"
            reached(target, seen | {room})

    for room in ROOMS:
        reached(room, frozenset())


def test_the_picture_shows_each_room_of_the_table_once() -> None:
    assert sorted(room for line in picture() for room in line) == sorted(ROOMS)


def test_a_room_imports_only_what_the_picture_shows_below_it() -> None:
    line = {room: number for number, rooms in enumerate(picture()) for room in rooms}
    above = [
        f"{room} imports {allowed}, which the picture does not show below it"
        for room, permissions in ROOMS.items()
        for allowed in permissions
        if line[allowed] <= line[room]
    ]
    assert above == []


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", ARCHITECTURE)
    assert len(named) > 10
    assert [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []


def test_the_list_of_words_has_each_word_and_verb_once() -> None:
    _, _, words = ARCHITECTURE.partition("## The words\n")
    rows = re.findall(r"^\| ([a-z' ]+) \|", words, re.MULTILINE)
    _, _, verbs = words.partition("The verbs: ")
    assert rows == WORDS
    assert re.findall(r"\*(\w+)\*", verbs) == VERBS


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("compare.judge.diff", "from shadowproxy.serve.policy import headers"),
        ("compare.judge.diff", "def f():\n    import shadowproxy.serve.policy.headers"),
        ("compare.judge.diff", "from shadowproxy.compare.fold import summary"),
        ("compare.fold.pair", "from shadowproxy.compare.report.stats import wilson"),
        ("serve.http1.framing", "from shadowproxy.serve.policy import headers"),
        ("serve.mirror.dispatch", "from shadowproxy.config import Config"),
        ("serve.mirror.dispatch", "from shadowproxy.serve.live import proxy"),
        ("exchange", "from shadowproxy import record"),
        ("serve.sidecar.live", "from shadowproxy.compare.fold.summary import Summary"),
    ],
)
def test_an_import_that_points_the_wrong_way_is_found(module: str, source: str) -> None:
    assert len(trespasses(module, source, NAMES, ROOMS)) == 1


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="absolute"):
        list(imports("from .serve import app", NAMES))


def test_only_judge_and_watch_import_httpx() -> None:
    found = [name for name, path in modules() if re.search(r"^\s*(import|from) httpx", path.read_text(), re.MULTILINE)]
    assert found == ["judge.embeddings", "judge.endpoint", "watch.sidecars", "watch.webhook"]


def test_the_page_of_modules_is_up_to_date() -> None:
    assert modules_page.PAGE.read_text() == modules_page.page(), "`make modules` writes it"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands_page.PAGE.read_text() == commands_page.page(), "`make modules` writes it"


def test_the_page_of_python_is_up_to_date_and_has_every_public_name() -> None:
    assert python_page.PAGE.read_text() == python_page.page(), "`make modules` writes it"
    listed = {name for names in python_page.PUBLIC.values() for _, name in names}
    assert set(shadowproxy._LAZY) <= listed


def test_the_first_page_of_the_documents_leads_to_every_other() -> None:
    text = (ROOT / "docs/index.md").read_text()
    named = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link}
    missing = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in named]
    assert missing == ["docs/index.md"]


def test_every_block_of_every_page_says_how_it_is_tested() -> None:
    every = [block for page in page_blocks.PAGES for block in page_blocks.blocks(page)]
    assert {str(block): said for block in every if (said := page_blocks.fault(block))} == {}


def test_no_page_for_readers_names_a_test() -> None:
    """Which test proves what is in guarantees.toml, transparency.toml and parties.toml."""
    named = {}
    for page in page_blocks.PAGES:
        text = re.sub(r"<!--.*?-->|^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        if page.name != "CONTRIBUTING.md" and (
            found := re.findall(r"`test_\w+|tests/test_\w+|\w\.py::|`chaos\w*\.py", text)
        ):
            named[str(page.relative_to(ROOT))] = found
    assert named == {}


def circles(imported: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import one another, directly or by way of others."""
    reached: dict[str, set[str]] = {}
    for name in imported:
        todo, reached[name] = [name], set()
        while todo:
            for each in imported.get(todo.pop(), set()) - reached[name]:
                reached[name].add(each)
                todo.append(each)
    found = {
        tuple(sorted({name} | {each for each in reached[name] if name in reached.get(each, set())}))
        for name in imported
        if name in reached[name]
    }
    return sorted(map(list, found))


def test_no_modules_import_one_another_not_even_for_their_types() -> None:
    assert circles({name: set(imports(path.read_text(), NAMES)) - {""} for name, path in modules()}) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
