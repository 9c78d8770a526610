"""The report as HTML, Markdown, JUnit and JSON: complete, harmless, small, and true to the published schema."""

import io
import json
import random
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import jsonschema  # type: ignore[import-untyped]
import pytest
from logs import answer, chosen, failed, mixed, record
from rich.console import Console
from test_streams import chunk, stream

from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import FEWEST_PAIRS, LEAST_SHARE
from shadowproxy.compare.fold.summary import load, merge, summarise
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.figures.slices import FEWEST_TO_FAIL, LEAST_SHARE_TO_FAIL
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.junit import to_junit
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures
from shadowproxy.compare.report.words import percent
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record

Figures: TypeAlias = Any

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "reference" / "report.schema.json").read_text())
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m`*_|]]>&\u202e"


def figures_of(records: list[Record], truths: dict[str, Truth] | None = None) -> Figures:
    return to_json(summarise(records, Reading(Rules(), truths=Truths(truths or {}))))


def classes(count: int = 600) -> list[Record]:
    def answers(source, number):  # type: ignore[no-untyped-def]
        label = source.choice("ab")
        return {"label": label}, failed(Outcome.TIMEOUT, 900.0) if number % 50 == 0 else {
            "label": label if number % 9 else "c"
        }

    return chosen(count, 3, answers)


def numbers() -> list[Record]:
    return chosen(600, 3, lambda source, n: ({"price": source.gauss(5, 1)}, {"price": source.gauss(6, 1)}))


def hostile() -> list[Record]:
    return [
        *chosen(
            100,
            3,
            lambda source, n: ({"label": EVIL, EVIL: EVIL}, {"label": f"{EVIL}{n % 3}", EVIL: n}),
            **{EVIL: EVIL},
        ),
    ]


EARLIER = (Path(__file__).parent / "data" / "summary_1.json").read_bytes()


def ranked(source: random.Random) -> Any:
    return {"results": [{"id": f"p{each}", "score": 1.0} for each in source.sample(range(20), 5)]}


def vector(source: random.Random) -> Any:
    first = source.random()
    return {"probabilities": [first, 1 - first]}


def embedding(source: random.Random) -> Any:
    return {"embedding": [source.gauss(0, 1) for _ in range(16)]}


def words(source: random.Random) -> str:
    return " ".join(source.choice(["one", "two", "three", "four", "five", "six"]) for _ in range(20))


SETS: dict[str, Callable[[], Figures]] = {
    "classes": lambda: figures_of(classes()),
    "labels": lambda: figures_of(classes(), {f"id-{n}": Truth(("a",), 1_770_000_000_000_000) for n in range(600)}),
    "numbers": lambda: figures_of(numbers()),
    "numbers with labels": lambda: figures_of(numbers(), {f"id-{n}": Truth((5.5,)) for n in range(600)}),
    "hostile": lambda: figures_of(hostile()),
    "mixed": lambda: figures_of(mixed(300)),
    "streams": lambda: figures_of(
        chosen(20, 1, lambda source, n: (stream(chunk("a"), chunk("b", "stop")), failed(Outcome.TIMEOUT, 900.0)))
    ),
    "rankings": lambda: figures_of(
        chosen(80, 2, lambda source, n: (ranked(source), ranked(source) if n % 9 else {"results": []}))
    ),
    "vectors": lambda: figures_of(chosen(80, 2, lambda source, n: (vector(source), vector(source)))),
    "embeddings": lambda: figures_of(chosen(80, 2, lambda source, n: (embedding(source), embedding(source)))),
    "texts": lambda: figures_of(chosen(80, 2, lambda source, n: ({"text": words(source)}, {"text": words(source)}))),
    "batches": lambda: figures_of(
        chosen(
            80,
            2,
            lambda source, n: ({"predictions": [n, n + 1.5, n * 2]}, {"predictions": [n, n + 2.5][: 1 + n % 2]}),
            rows=[1, 2, 3],
        ),
        {f"id-{n}": Truth((n, None, 7)) for n in range(40)},
    ),
    "asked twice": lambda: figures_of(
        [
            each._replace(control=each.shadows["s"] if n % 3 else each.live)
            for n, each in enumerate(chosen(90, 2, lambda source, n: ({"p": source.random()}, {"p": source.random()})))
        ]
    ),
    "routes": lambda: figures_of(
        [
            each._replace(
                request=each.request._replace(path=("/a", "/b", "/c/7")[0 if n > 950 else 1 if n < 600 else 2])
            )
            for n, each in enumerate(classes(1000))
        ]
    ),
    "earlier": lambda: to_json(load(EARLIER)),
    "earlier and now": lambda: to_json(merge(load(EARLIER), summarise(mixed(90), Rules()))),
    "other gates": lambda: to_json(
        summarise(numbers(), Rules()), Gates(range=(0.0, 1.0), drift=None, min_agreement=0.5)
    ),
    "numbers without end": lambda: figures_of(
        chosen(40, 2, lambda source, n: ({"p": 1e308 if n % 2 else -1e-112}, {"p": 1e308 if n % 3 else 0.5}))
    ),
    "sums beyond a float": lambda: figures_of(
        chosen(
            60,
            2,
            lambda source, n: ({"p": source.uniform(-1, 1) * 1.7e308}, {"p": source.uniform(0.6, 1) * 1.7e308}),
        )
    ),
    "few": lambda: figures_of(classes(5)),
    "nothing": lambda: figures_of([]),
    "no answers": lambda: figures_of(chosen(5, 1, lambda source, n: ({"a": 1}, failed(Outcome.LANE_FULL)))),
}


@pytest.fixture(scope="module", params=sorted(SETS))
def figures(request: pytest.FixtureRequest) -> Figures:
    made: Figures = SETS[request.param]()
    return made


def test_the_json_is_as_its_schema_says(figures: Figures) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(json.dumps(figures, allow_nan=False)), SCHEMA)


def undescribed(value: Any, schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """The places of a value of which its schema says nothing."""
    kinds = list(branches(schema, value))
    if isinstance(value, list):
        inner = [kind["items"] for kind in kinds if "items" in kind]
        for number, each in enumerate(value):
            for found in inner:
                yield from undescribed(each, found, f"{at}/{number}")
    if isinstance(value, dict):
        named = {name: found for kind in kinds for name, found in kind.get("properties", {}).items()}
        others = [kind["additionalProperties"] for kind in kinds if "additionalProperties" in kind]
        for name, each in value.items():
            if name in named:
                yield from undescribed(each, named[name], f"{at}/{name}")
            elif others:
                yield from undescribed(each, others[0], f"{at}/{name}")
            else:
                yield f"{at}/{name}"


def branches(schema: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The schemas that hold for a value: this one, those it refers to, and of alternatives the one that fits."""
    yield schema
    if "$ref" in schema:
        yield from branches(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value)
    for each in schema.get("allOf", ()):
        yield from branches(each, value)
    for each in schema.get("anyOf", ()):
        whole = {**each, "$defs": SCHEMA["$defs"]}
        if jsonschema.Draft202012Validator(whole).is_valid(value):
            yield from branches(each, value)


def test_the_schema_describes_every_key(figures: Figures) -> None:
    assert list(undescribed(json.loads(json.dumps(figures)), SCHEMA)) == []


def test_the_schema_refuses_what_it_does_not_describe() -> None:
    figures = SETS["few"]()
    del figures["shadows"]["s"]["verdict"]["headline"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps(figures)), SCHEMA)


class Page(HTMLParser):
    """Tags and their attributes, and whether they are closed in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_html_has_no_script_and_no_address_and_is_small(figures: Figures) -> None:
    text = to_html(figures)
    page = Page(text)
    assert not page.open
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset")]
        if "href" in attributes:
            assert (tag, str(attributes["href"])[:1], str(attributes["href"])[1:] in targets) == ("a", "#", True)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(attributes for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'")
    assert len(text.encode()) < 300_000


def test_the_html_can_be_read_without_eyes(figures: Figures) -> None:
    page = Page(to_html(figures))
    tags = page.tags
    assert ("html", {"lang": "en"}) in tags
    assert sum(tag == "h1" for tag, _ in tags) == 1
    assert all("aria-label" in attributes or attributes.get("aria-hidden") for tag, attributes in tags if tag == "svg")
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")


def test_nothing_from_a_log_acts_in_any_form() -> None:
    figures = SETS["hostile"]()
    text = to_html(figures)
    assert "alert(1)" in text
    assert "<img" not in text
    assert "<script" not in text
    for form in (text, to_markdown(figures), to_junit(figures)):
        assert not {"\x1b", "\u202e"} & set(form)
    markdown = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", to_markdown(figures))
    assert "<img" not in markdown


def test_the_html_says_who_is_better_at_what_and_what_to_do_next() -> None:
    text = " ".join(Page(to_html(SETS["labels"]())).text)
    assert "NOT READY" in text
    assert "Live is right more often" in text or "The shadow is right more often" in text or "Neither" in text
    assert "The two agree on" in text
    assert "Next: mend what fails first" in text
    assert "accuracy" in text


def test_the_page_draws_a_class_that_only_the_shadow_answers_often() -> None:
    records = chosen(400, 3, lambda source, n: ({"label": f"live-{n % 15}"}, {"label": "always"}))
    text = " ".join(Page(to_html(figures_of(records))).text)
    drawn = re.findall(r"(?:live-\d+|always)(?= |$)", text.partition("The answers")[2].partition("How often")[0])
    assert "always" in drawn
    assert len(set(drawn)) == 8


def test_markdown_names_the_verdict_and_escapes_its_tables() -> None:
    text = to_markdown(SETS["classes"]())
    assert "## s: NOT READY" in text
    assert "| Engineering | **fail** |" in text
    assert "`/label`" in text
    for row in to_markdown(SETS["hostile"]()).splitlines():
        if row.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", row)) in (3, 5)


def test_junit_counts_a_failed_check_as_a_failure_and_an_open_one_as_skipped() -> None:
    figures = SETS["classes"]()
    (suite,) = ElementTree.fromstring(to_junit(figures))
    checks = {check["name"]: check["result"] for check in figures["shadows"]["s"]["checks"]}
    assert int(suite.attrib["failures"]) == list(checks.values()).count("fail") > 0
    assert int(suite.attrib["tests"]) == len(checks)
    for case in suite:
        result = checks[case.attrib["name"]]
        assert case[0].tag == {"pass": "system-out", "fail": "failure"}.get(result, "skipped")
        assert {each.tag for each in case[1:]} <= {"system-err"}


def test_junit_is_xml_whatever_a_shadow_is_called() -> None:
    record = chosen(1, 1, lambda source, n: ({"a": 1}, {"a": 1}))[0]
    figures = figures_of([record])
    figures["shadows"][f"{EVIL}\x00\ufffe"] = figures["shadows"].pop("s")
    ElementTree.fromstring(to_junit(figures))


def to_text(figures: Figures) -> str:
    out = io.StringIO()
    print_figures(figures, Console(file=out, width=120))
    return out.getvalue()


def test_every_form_draws_the_same_from_a_report_that_was_read_from_its_json(figures: Figures) -> None:
    read = json.loads(json.dumps(figures, allow_nan=False))
    for form in (to_html, to_markdown, to_junit, to_text):
        assert form(figures) == form(read)


FORMS = ("html", "sentences", "text", "markdown", "junit", "charts", "words")
HISTORY = "history"  # is JSON of its own, written by a watcher
DRAWN = (
    "figures.basic_types",
    "figures.language_types",
    "figures.measure_types",
    "figures.types",
    "judged",
    HISTORY,
    *FORMS,
)


def test_no_form_computes_a_figure() -> None:
    """A form imports no gate, check, statistic or summary: it can only draw what the report's JSON holds."""
    room = Path(__file__).parent.parent / "shadowproxy" / "compare" / "report"
    sources = [path for name in FORMS for path in (*room.glob(f"{name}.py"), *room.glob(f"{name}/*.py"))]
    assert len(sources) > 15
    for path in sources:
        source = path.read_text().replace("shadowproxy.compare.report import ", "shadowproxy.compare.report.")
        for module in re.findall(r"^\s*(?:from|import) (shadowproxy\S*)", source, re.MULTILINE):
            drawn = module.removeprefix("shadowproxy.compare.report.")
            assert module == "shadowproxy.compare.judge.visible" or drawn.startswith(DRAWN), f"{path}: {module}"


def test_the_page_names_the_limits_that_routes_and_parts_are_judged_by() -> None:
    lost = chosen(1400, 3, lambda source, n: ({"p": n}, failed(Outcome.TIMEOUT, 900.0) if n % 7 == 3 else {"p": n}))
    page = " ".join(Page(to_html(SETS["routes"]()) + to_html(figures_of(lost))).text)
    page = " ".join(page.replace("\u00a0", " ").split())
    assert f"Each route with {FEWEST_PAIRS} requests and {percent(LEAST_SHARE)} of all is judged" in page
    assert f"with {FEWEST_TO_FAIL} requests and {percent(LEAST_SHARE_TO_FAIL)} of all" in page


def test_an_answer_of_a_megabyte_does_not_swell_the_page() -> None:
    records = chosen(
        40, 1, lambda source, n: (answer({"text": "x" * 100_000 + "y"}), answer({"text": "x" * 100_000 + str(n)}))
    )
    assert len(to_html(figures_of(records))) < 300_000


def test_many_shadows_stay_readable() -> None:
    """The overview comes first, then what to do next with each; one shadow's own report has all there is."""
    source = random.Random(7)
    names = [f"shadow-{number:02}" for number in range(50)]

    def one(number: int, routes: int) -> Record:
        live = answer({"class": source.choice("abc")})
        made = record(number, live, number, **dict.fromkeys(names, live))
        path = f"/v1/models/model-{number % routes}/items/{number}/predict"
        return made._replace(request=made.request._replace(path=path))

    figures = figures_of([one(number, 2) for number in range(8)])
    out = io.StringIO()
    print_figures(figures, Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert len(lines) < 300
    assert [name for line in lines[3:54] for name in names if name in line] == names
    markdown = to_markdown(figures)
    assert len(markdown) < 60_000  # a comment on GitHub has at most 65,536 characters
    assert "--shadow NAME shows one whole" in markdown
    assert len(to_html(figures)) < 300_000
