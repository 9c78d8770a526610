"""The page as a document: it asks nowhere else, runs nothing else, and speaks the report's language."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib import resources
from itertools import product
from pathlib import Path

import pytest

from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.html.style import STYLE
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve.admin import page

DOCUMENT = page.DOCUMENT.decode()
OUR_OWN_WORDS = {"http://www.w3.org/2000/svg", "http://model-v2:8000"}  # SVG's name, and the example of a shadow


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of each script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in self.inline and self.cdata_elem:
            self.inline[self.tags[-1][0]].append(data)


@pytest.fixture(scope="module")
def elements() -> Elements:
    parser = Elements()
    parser.feed(DOCUMENT)
    return parser


def test_no_address_outside_it_is_in_the_page(elements: Elements) -> None:
    assert set(re.findall(r"\w+://[^\s'\"<>}]+", DOCUMENT)) == OUR_OWN_WORDS
    assert not re.search(r"@import|url\(", DOCUMENT)
    places = [value for _, attributes in elements.tags for name in ("src", "href") if (value := attributes.get(name))]
    assert places
    assert [place for place in places if not re.fullmatch(r"[a-z.]+", place)] == [
        place for place in places if place.startswith("data:image/svg+xml,")
    ]


def test_its_policy_allows_this_script_and_style_and_no_other(elements: Elements) -> None:
    for kind in ("script", "style"):
        assert [tag for tag, _ in elements.tags].count(kind) == 1
        digest = hashlib.sha256("".join(elements.inline[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in page.POLICY
    assert page.POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in page.POLICY
    assert not [
        name for _, attributes in elements.tags for name in attributes if name.startswith("on") or name == "style"
    ]


def test_no_text_is_taken_for_markup_or_for_script() -> None:
    doors = (
        r"(inner|outer|set|insertAdjacent)HTML|document\.write|DOMParser|ContextualFragment|srcdoc|eval\(|Function\("
    )
    assert not re.search(doors, DOCUMENT)
    assert "require-trusted-types-for 'script'" in page.POLICY


def test_every_file_of_the_page_is_in_it() -> None:
    files = {file.name for file in resources.files(page).iterdir() if not file.name.startswith("__")}
    assert files == {"page.html", "page.css", *(f"{name}.js" for name in page.SCRIPTS)}


def test_it_is_answered_with_its_policy() -> None:
    answer = page.respond()
    assert answer.body == page.DOCUMENT
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == page.POLICY


def test_it_allows_live_as_much_as_the_reports_gate() -> None:
    found = re.search(r"^const ALLOWED = ([\d.]+);", DOCUMENT, re.MULTILINE)
    assert found
    allowed = Gates().p99_ratio
    assert allowed is not None
    assert float(found[1]) == pytest.approx(allowed - 1)
    assert f"it may be {allowed - 1:.0%} higher".replace("%", " %") in DOCUMENT


def words(name: str) -> list[str]:
    found = re.search(rf"^const {name} = \[(.*)\];$", DOCUMENT, re.MULTILINE)
    assert found
    return re.findall(r'"(\w+)"', found[1])


def test_it_knows_every_outcome_and_every_verdict() -> None:
    grouped = [outcome for group in ("FAILED", "SHED", "HELD") for outcome in words(group)]
    assert sorted(grouped) == sorted(set(Outcome) - {Outcome.OK, Outcome.CALLER_LEFT})
    assert words("VERDICTS") == list(Verdict)


def schemes(style: str) -> list[dict[str, str]]:
    """The colours of the light and of the dark scheme, by name."""
    return [dict(re.findall(r"--(\w+):(#\w+)", block)) for block in re.findall(r":root\{([^}]*)\}", style)]


def test_its_colours_are_the_reports(elements: Elements) -> None:
    assert schemes("".join(elements.inline["style"])) == schemes(STYLE)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(elements: Elements, scheme: int) -> None:
    """A contrast of at least 4.5 to 1 (WCAG 2.2, criterion 1.4.3)."""
    colours = schemes("".join(elements.inline["style"]))[scheme]
    pairs = [*product(("fg", "soft", "pass", "fail", "unsure"), ("bg", "card"))]
    pairs += [(name, f"{name}bg") for name in ("pass", "fail", "unsure")]
    pairs += [("fg", f"{name}bg") for name in ("pass", "fail", "unsure")]
    for text, behind in pairs:
        darker, lighter = sorted((luminance(colours[text]), luminance(colours[behind])))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, behind)


def test_no_function_of_the_page_declares_a_name_twice() -> None:
    """A browser refuses the whole script then. The long tests show the page to one; this is for every run."""
    for file in sorted(Path(page.__file__).parent.glob("*.js")):
        for body in re.split(r"^(?=\S)", file.read_text(), flags=re.MULTILINE):
            names = re.findall(r"^  (?:const|let) (\w+)\b", body, re.MULTILINE)
            for taken in re.findall(r"^  const [\[{] ?([\w, ]+?) ?[\]}]", body, re.MULTILINE):
                names += taken.split(", ")
            assert len(names) == len(set(names)), (file.name, names)
