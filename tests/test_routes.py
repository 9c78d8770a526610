"""Routes: what a path's template is, which routes are judged, and that the whole is their sum."""

import random
from typing import Any

import pytest
from logs import chosen, report_json

from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.routes import MOST_ROUTES, OTHER, judged, pooled, route_of, template
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import exit_code
from shadowproxy.record import Record


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/predict", "/predict"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v2/models/resnet50/versions/3/infer", "/v2/models/resnet50/versions/*/infer"),
        ("/orders/1234/items", "/orders/*/items"),
        ("/orders/ord-98123/items", "/orders/*/items"),
        ("/users/550e8400-e29b-41d4-a716-446655440000", "/users/*"),
        ("/users/usr_550e8400e29b41d4a716446655440000", "/users/*"),
        ("/files/9f86d081884c7d65", "/files/*"),
        ("/files/0x9F86D081", "/files/*"),
        ("/sessions/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/sessions/*"),
        ("/days/2026-01-31", "/days/*"),
        ("/at/-12.5,4.25", "/at/*"),
        ("/invocations", "/invocations"),
        ("/feed/deadbeef", "/feed/deadbeef"),
        ("/a/" + "x" * 65, "/a/*"),
        ("/" + "/".join("abcdefghijklmnop"), "/a/b/c/d/e/f/g/h/i/j/k/…"),
    ],
)
def test_a_template_masks_what_changes_from_request_to_request(path: str, shown: str) -> None:
    assert template(path) == shown


def test_a_route_has_its_method() -> None:
    assert route_of("POST", "/orders/7") == "POST /orders/*"
    assert len(route_of("X" * 9000, "/")) < 20


def on_paths(counts: dict[str, int], bad: str = "", **more: Any) -> list[Record]:
    """Requests of a twin by path, in a mixed order; on `bad` the shadow leaves out one answer in ten."""
    source = random.Random(5)
    paths = [path for path, count in counts.items() for _ in range(count)]
    source.shuffle(paths)

    def answers(_: random.Random, number: int) -> tuple[Any, Any]:
        said = {"label": source.choice("ab")}
        return said, {"label": None} if paths[number] == bad and source.random() < 0.1 else said

    records = chosen(len(paths), 1, answers, **more)
    return [each._replace(request=each.request._replace(path=path)) for each, path in zip(records, paths, strict=True)]


def routes_of(counts: dict[str, int]) -> list[tuple[str, int, bool]]:
    summary = summarise(on_paths(counts), Rules())
    return [(each.name, each.pair.pairs.total(), each.gated) for each in judged(summary.shadows["s"])]


def test_routes_of_300_pairs_and_one_per_cent_are_judged() -> None:
    assert routes_of({"/a": 600, "/b": 300, "/c": 299}) == [
        ("POST /a", 600, True),
        ("POST /b", 300, True),
        ("POST /c", 299, False),
    ]


def test_what_is_left_over_is_judged_together_if_it_is_enough() -> None:
    assert routes_of({"/a": 600, "/b": 150, "/c": 150}) == [
        ("POST /a", 600, True),
        ("POST /b", 150, False),
        ("POST /c", 150, False),
        (OTHER, 300, True),
    ]


def test_where_no_route_is_enough_the_whole_is_judged() -> None:
    found = routes_of({"/a": 200, "/b": 200})
    assert found == [("POST /a", 200, False), ("POST /b", 200, False)]
    figures = report_json(summarise(on_paths({"/a": 200, "/b": 200}), Rules()))["shadows"]["s"]
    assert figures["pairs"]["n"] == 400
    assert [route["figures"] for route in figures["routes"]] == [None, None]
    assert {check["route"] for check in figures["checks"]} == {None}


def test_a_single_route_is_worked_out_once() -> None:
    summary = summarise(on_paths({"/a": 400}), Rules())
    (route,) = report_json(summary)["shadows"]["s"]["routes"]
    assert (route["route"], route["requests"], route["share"], route["gated"], route["figures"]) == (
        "POST /a",
        400,
        1.0,
        True,
        None,
    )
    routes = summary.shadows["s"]
    assert pooled(routes) is routes["POST /a"]


@pytest.mark.slow
def test_a_fault_on_one_route_is_not_thinned_by_the_others() -> None:
    """Over all of 8,000 requests 0.4 points are lost, which is allowed; on the route they are on, ten."""
    figures = report_json(summarise(on_paths({"/a": 7700, "/rare": 320}, bad="/rare"), Rules()))
    shadow = figures["shadows"]["s"]
    assert 0.001 < shadow["outputs"][0]["answered"]["lost"] / shadow["pairs"]["n"] < 0.005
    (answered,) = (check for check in shadow["checks"] if check["name"] == "answered")
    assert (answered["result"], answered["route"]) == ("fail", "POST /rare")
    assert exit_code(figures) == 1
    by_name = {route["route"]: route for route in shadow["routes"]}
    assert by_name["POST /rare"]["figures"]["outputs"][0]["answered"]["lost"] > 20
    assert by_name["POST /a"]["figures"]["outputs"][0]["answered"]["lost"] == 0


def test_the_whole_is_the_sum_of_its_routes() -> None:
    records = on_paths({"/a": 100, "/b": 50, "/c/1": 20, "/c/2": 20}, bad="/b")
    routes = summarise(records, Rules()).shadows["s"]
    assert set(routes) == {"POST /a", "POST /b", "POST /c/*"}
    one_path = [each._replace(request=each.request._replace(path="/a")) for each in records]
    together, whole = pooled(routes), pooled(summarise(one_path, Rules()).shadows["s"])
    for name in ("pairs", "compared", "agreed", "statuses", "signatures", "outputs", "live_ms", "present", "lacking"):
        assert getattr(together, name).to_json() == getattr(whole, name).to_json(), name


def test_of_many_routes_a_bounded_number_is_kept_and_none_is_lost() -> None:
    routes = summarise(on_paths({f"/{chr(97 + n // 26)}{chr(97 + n % 26)}": 3 for n in range(200)}), Rules()).shadows[
        "s"
    ]
    assert len(routes) == MOST_ROUTES
    assert routes.cut
    assert pooled(routes).pairs.total() == 600
    rows = judged(routes)
    assert rows[-1].name == OTHER
    assert rows[-1].pair.pairs.total() == 600
    assert isinstance(rows[-1].pair, Pair)
