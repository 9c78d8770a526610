"""The website is made from the pages: each has its place, no link is dead, and nothing is fetched from elsewhere."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Browser

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "website"))

import gather  # noqa: E402 (it is no package)

WIDTHS = (360, 768, 1280)


def test_each_page_is_gathered_and_has_its_place_in_the_navigation(tmp_path: Path) -> None:
    gather.gather(tmp_path)
    index = (tmp_path / "index.md").read_text()
    (*listed,) = re.findall(r"^\w.* <(\S+)>$", index, re.MULTILINE)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert {f"{each}.md" for each in listed} | {"index.md"} == written == set(gather.pages().values())
    assert "<!--" not in "".join(
        re.sub(r"```.*?```", "", (tmp_path / each).read_text(), flags=re.S) for each in written
    )


def test_a_page_that_the_first_page_does_not_name_is_an_error() -> None:
    text = (ROOT / gather.INDEX).read_text().replace("(reference/log.md)", "(reference/answers.md)")
    text = text.replace("(reference/log.md#what-is-not-in-the-log)", "(reference/answers.md)")
    with pytest.raises(gather.GatherError, match=r"no link to docs/reference/log\.md"):
        gather.navigation(text)


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("README.md", "[a](docs/reference/log.md#streams)", "[a](../reference/log.md#streams)"),
        ("docs/how-to/fleet.md", "[a](../../README.md#install)", "[a](../project/readme.md#install)"),
        ("docs/index.md", "![a](images/report.png)", "![a](images/report.png)"),
        ("docs/index.md", "[![a](images/report.png)](../README.md)", "[![a](images/report.png)](project/readme.md)"),
        (
            "docs/reference/log.md",
            "[a](#streams), [b](https://example.com/x)",
            "[a](#streams), [b](https://example.com/x)",
        ),
        ("deploy/README.md", "[the files](logshipping) and", "the files and"),
        (
            "README.md",
            "[one\ntwo](LICENSE)\n\n```\n[a](b)\n```\n",
            "[one\ntwo](../files/LICENSE)\n\n```\n[a](b)\n```\n",
        ),
        ("README.md", "[LICENSE](LICENSE)", "[LICENSE](../files/LICENSE)"),
        ("README.md", "`[not](a-link)`\n```sh\n[a](nowhere)\n```", None),
        ("README.md", "[a](nowhere.md)", None),
    ],
)
def test_a_link_leads_to_the_same_page_of_the_site(page: str, link: str, there: str | None) -> None:
    if there is None:
        with pytest.raises(gather.GatherError, match="which is not there"):
            gather.moved(link, page, set())
    else:
        assert gather.moved(link, page, set()) == there


# --- as it is built ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("built")
    done = subprocess.run(["make", "site", f"SITE_TO={to}"], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return to / "site"


def pages_of(site: Path) -> list[str]:
    return [str(path.relative_to(site)) for path in sorted(site.rglob("*.html"))]


class Fetched(HTMLParser):
    """What a browser asks for by itself when it shows a page: not what a reader may click."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.addresses += [given[name] for name in ("src", "srcset", "poster", "data") if name in given and tag != "a"]
        if tag == "link":
            self.addresses.append(given.get("href", ""))


def fetched(site: Path) -> Iterator[str]:
    for page in site.rglob("*.html"):
        parser = Fetched()
        parser.feed(page.read_text())
        yield from parser.addresses
    for style in site.rglob("*.css"):
        yield from re.findall(r"(?:@import|url\()\s*[\"']?([^\"')\s]+)", style.read_text())


@pytest.mark.soak
def test_nothing_on_the_site_is_fetched_from_elsewhere(site: Path) -> None:
    addresses = list(fetched(site))
    assert len(addresses) > 300
    assert [each for each in addresses if re.match(r"(?!data:)[a-z]+:|//", each)] == []


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Standard error is the test runner's."""


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.soak
async def test_a_browser_shows_it_and_searches_without_any_other_host(site: Path, served: str, tmp_path: Path) -> None:
    pages = pages_of(site)
    assert "tutorials/llm.html" in pages
    async with Browser(tmp_path) as browser:
        for width in WIDTHS:
            await browser.look(width, 900)
            for page in pages if width == min(WIDTHS) else ("index.html", "reference/metrics.html"):
                await browser.open(served + page)
                await browser.wait(f"location.href == '{served}{page}' && document.readyState == 'complete'")
                too_wide = await browser.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert too_wide <= 0, f"{page} is {too_wide} pixels too wide on a screen of {width}"
        await browser.open(f"{served}search.html?q=breaker")
        await browser.wait("document.querySelectorAll('#search-results li a').length > 2")
    assert [each for each in browser.requests if not each.startswith((served, "data:"))] == []
    assert browser.complaints == []


@pytest.mark.soak
def test_dead_links_end_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "other.md").write_text("# Other\n")
    dead = "[a](other.md#nowhere-1), [b](nowhere-2.md), [c](#nowhere-3)"
    (source / "index.md").write_text(f"# A page\n\n{dead}\n\n```{{toctree}}\nother\n```\n")
    words = ["-q", "-W", "--keep-going", "-c", "website", str(source), str(tmp_path / "site")]
    done = subprocess.run(
        [".site/bin/python", "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert all(f"nowhere-{number}" in done.stderr for number in (1, 2, 3))
