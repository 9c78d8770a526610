"""The page in a real browser, in front of a real sidecar: what it shows moves, and what is pressed is done."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser
from conftest import Proxy, StartProxy, starter
from fakes import Origin, always, answer, each
from format_samples import NPY_FLOAT32
from program import Program

from shadowproxy.exchange import Outcome

pytestmark = pytest.mark.soak

ADMIN = {"admin": "127.0.0.1:0"}
JSON = (b"Content-Type", b"application/json")
STREAM = (b"Content-Type", b"text/event-stream")
LIVE = always(answer(b'{"late":0.10,"model":"v1"}', JSON))
SAME = always(answer(b'{"late":0.10,"model":"v1"}', JSON))
OTHER = always(answer(b'{"late":0.9000,"model":"v2"}', JSON))
ATTACK = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'
CARD = "document.querySelector('#shadows article')"
WIDTHS = (1280, 820, 375)


def root(running: Proxy) -> str:
    assert running.sidecar.admin_address is not None
    host, port = running.sidecar.admin_address
    return f"http://{host}:{port}/"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with Browser(tmp_path) as running:
        await running.look(1280, 900)
        yield running


@pytest.fixture
def proxy(tmp_path: Path) -> StartProxy:
    """The fixture of conftest.py, without its check of tasks: the browser's are there as well."""
    return starter(tmp_path)


async def opened(browser: Browser, running: Proxy) -> None:
    """The page, once it shows something."""
    await browser.open(root(running))
    await browser.wait("!document.querySelector('#main')?.hidden && document.querySelector('#main') !== null")


async def post(running: Proxy, body: bytes = b'{"x":1}', path: bytes = b"/predict") -> None:
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    assert (await running.ask(head % (path, len(body)) + body)).status == 200


async def told(running: Proxy, path: str) -> Any:
    async with httpx.AsyncClient(trust_env=False, base_url=root(running)) as admin:
        return (await admin.get(path)).json()


def shows(text: str, where: str = "document.body") -> str:
    """An expression that is true once the text can be read there."""
    return f"((place) => place?.checkVisibility() && place.innerText.includes({text!r}))({where})"


def press(button: str) -> str:
    return f"[...document.querySelectorAll('button')].find((each) => each.innerText === {button!r}).click()"


async def test_the_figures_move_under_traffic(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"same": SAME, "other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        assert await browser.evaluate(shows("NO REQUEST YET"))
        assert await browser.evaluate(shows("None seen yet"))
        for _ in range(7):
            await post(running)
        await browser.wait(shows("Live answered all 7 requests"))
        await browser.wait(shows("7 match", "document.querySelectorAll('#shadows article')[0]"))
        await browser.wait(shows("7 mismatch", "document.querySelectorAll('#shadows article')[1]"))
        await browser.wait("document.querySelectorAll('#differences li').length === 7")
        await post(running)
        await browser.wait(shows("Live answered all 8 requests"))
        await browser.wait("document.querySelectorAll('#differences li').length === 8")
        assert browser.complaints == []


async def test_the_standing_verdict_is_shown_and_begins_anew(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"same": SAME}, **ADMIN) as running:
        for _ in range(60):
            await post(running)
        await opened(browser, running)
        await browser.wait(shows("NOT SURE YET"))
        await browser.wait(shows("60 requests since 20"))
        await browser.evaluate("document.querySelector('.verdict details summary').click()")
        await browser.wait(shows("latency: inconclusive – latency is decided at 1,000 requests; there are 60"))
        await browser.evaluate(press("New candidate"))
        await browser.wait(shows("The verdict on same starts over"))
        await browser.wait(shows("0 requests since 20"))
        await browser.wait(shows("NO DATA"))
        assert browser.complaints == []


async def test_the_content_does_not_move(proxy: StartProxy, browser: Browser) -> None:
    """The browser's own measure of what jumped (Layout Instability API); below 0.1 is good by its makers' word."""
    async with proxy(LIVE, {"other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        watch = "new PerformanceObserver((seen) => seen.getEntries().forEach((each) => window.moved += each.value))"
        await browser.evaluate(f"window.moved = 0; {watch}.observe({{type: 'layout-shift'}})")
        for _ in range(20):
            await post(running)
        await browser.wait(shows("Live answered all 21 requests"))
        await browser.wait(shows("21 mismatch"))
        assert await browser.evaluate("window.moved") < 0.02


async def test_a_difference_that_is_read_is_not_taken_away(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running, b'{"x":"the first"}')
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        await browser.evaluate("document.querySelector('#differences summary').click()")
        await browser.wait(shows("the first", "document.querySelector('#differences')"))
        await post(running)
        await browser.wait("!document.querySelector('#newer').disabled")
        assert await browser.evaluate("document.querySelectorAll('#differences li').length") == 1
        await browser.evaluate(press("Show newer"))
        await browser.wait("document.querySelectorAll('#differences li').length === 2")


async def test_both_answers_stand_side_by_side_digit_by_digit(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        await browser.evaluate("document.querySelector('#differences summary').click()")
        await browser.wait("document.querySelectorAll('#differences pre mark').length > 0")
        texts = "[...document.querySelectorAll('#differences .pair pre')].map((each) => each.innerText)"
        assert await browser.evaluate(texts) == [
            '{\n  "late": 0.1  ← differs\n  "model": "v1"  ← differs\n}\n',
            '{\n  "late": 0.9  ← differs\n  "model": "v2"  ← differs\n}\n',
        ]
        marked = "[...document.querySelectorAll('#differences mark')].map((each) => each.innerText)"
        assert await browser.evaluate(marked) == ["1", "1", "9", "2"]
        await browser.evaluate("document.querySelector('#differences details details summary').click()")
        await browser.wait("document.querySelectorAll('#differences .pair pre').length === 4")
        _, _, live, shadow = await browser.evaluate(texts)
        assert live == '{\n  "late": 0.10,\n  "model": "v1"\n}'
        assert shadow == '{\n  "late": 0.9000,\n  "model": "v2"\n}'
        left, right, *_ = await browser.evaluate(
            "[...document.querySelectorAll('#differences .pair pre')].map(e => e.getBoundingClientRect().left)"
        )
        assert left < right


def stream(id: str, *words: str) -> bytes:
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    chunks = [
        {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        for choice in choices
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return answer(body.encode(), STREAM)


def embedding(*numbers: float) -> bytes:
    row = {"object": "embedding", "index": 0, "embedding": numbers}
    return answer(json.dumps({"object": "list", "model": "e", "data": [row]}).encode(), JSON)


def table(late: float) -> bytes:
    rows = f"flight,delay,late\nUA100,12,0.25\nLH4711,7,{late}\n"
    return answer(rows.encode(), (b"Content-Type", b"text/csv"))


def image(end: bytes) -> bytes:
    return answer(b"\x89PNG\r\n\x1a\n" + bytes(40) + end, (b"Content-Type", b"image/png"))


def array(raw: bytes) -> bytes:
    return answer(raw, (b"Content-Type", b"application/x-npy"))


SPOKEN = ["The flight is late,\n", "by ", "25 minutes.\n", f"{ATTACK}\u202e"]
FORMATS = [
    (stream("a", *SPOKEN), stream("b", *SPOKEN)),
    (stream("a", *SPOKEN), stream("b", *SPOKEN[:2], "40 minutes.\n", SPOKEN[3])),
    (embedding(0.1, 0.2, 0.3, 0.4, 0.5), embedding(0.1, 0.2, 0.3, 0.4, 0.9)),
    (table(0.5), table(0.75)),
    (array(NPY_FLOAT32), array(NPY_FLOAT32[:-4] + b"\0\0\0\x3f")),
    (image(b"1"), image(b"2")),
    (stream("a", "Hel", "lo"), answer(b'data: {"error": {"message": "out of memory"}}\n\n', STREAM)),
]
LINES = [
    "by 25 minutes.  ← differs",
    '"embedding": float64 [5]: 0.1, 0.2, 0.3, 0.4, … (1 - cosine = 0.0401)',
    "LH4711  7      0.75  ← differs",
    "float32 [2, 2]: 0.1, 0.9, 0.25, 0.75  ← differs",
    "(1 of 4 numbers are not the same, by up to 0.25)",
    "image/png, 49 bytes, SHA-256 ",
    "(failed: out of memory)  ← differs",
]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_what_answers_say_is_shown_in_every_format(
    proxy: StartProxy, browser: Browser, tmp_path: Path, dark: bool
) -> None:
    """Its pictures are in the test's directory."""
    live, shadow = (each(*(pair[arm] for pair in FORMATS)) for arm in (0, 1))
    async with proxy(live, {"other": shadow}, **ADMIN) as running:
        await opened(browser, running)
        async with await running.caller() as caller:
            for _ in FORMATS:
                await caller.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await browser.wait("document.querySelectorAll('#differences li').length === 6")
        await browser.wait(shows("14.3\u00a0%", CARD))
        await browser.wait(shows("1 answer since the start says that it failed", CARD))
        await browser.evaluate(
            "document.querySelectorAll('#differences li > details > summary').forEach((e) => e.click())"
        )
        await browser.wait("[...document.querySelectorAll('#differences li')].every((e) => e.querySelector('mark'))")
        for line in LINES:
            assert await browser.evaluate(shows(line, "document.querySelector('#differences')")), line
        assert await browser.evaluate("window.hurt === undefined")
        assert "\u202e" not in await browser.evaluate("document.body.innerText")
        for width in WIDTHS:
            await browser.look(width, 900, dark=dark)
            assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
            (tmp_path / f"{width}.png").write_bytes(await browser.picture())
        assert browser.complaints == []


async def test_bodies_are_shown_as_sent_if_what_they_say_cannot_be_had(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        await browser.evaluate("window.fetch = () => Promise.reject(new Error('gone'))")
        await browser.evaluate("document.querySelector('#differences summary').click()")
        await browser.wait(shows("What it says cannot be had (gone). As it was sent:"))
        assert await browser.evaluate(shows('"late": 0.9000', "document.querySelector('#differences')"))


async def test_a_shadow_paused_on_the_page_is_asked_no_more(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME, "b": SAME}, **ADMIN) as running:
        await opened(browser, running)
        await browser.evaluate(f"{CARD}.querySelector('button[aria-label=\"Pause a\"]').focus()")
        await browser.press("Enter", 13, "\r")
        await browser.wait(shows("PAUSED", CARD))
        await browser.wait(shows("a is paused.", "document.querySelector('#message')"))
        shadows = (await told(running, "shadows"))["shadows"]
        assert (shadows["a"]["paused"], shadows["b"]["paused"]) == (True, False)
        await post(running)
        await browser.wait(shows("1 paused", CARD))
        await browser.evaluate(f"{CARD}.querySelector('button[aria-label=\"Resume a\"]').click()")
        await browser.wait(shows("MIRRORING 100", CARD))
        await post(running)
        paused, asked = await running.records()
        assert [paused.shadows[name].outcome for name in "ab"] == [Outcome.PAUSED, Outcome.OK]
        assert [asked.shadows[name].outcome for name in "ab"] == [Outcome.OK, Outcome.OK]
        assert browser.complaints == []


async def test_one_press_pauses_every_shadow(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME, "b": SAME}, **ADMIN) as running:
        await opened(browser, running)
        await browser.evaluate(press("Pause all shadows"))
        await browser.wait(shows("Every shadow is paused: callers are served by live alone"))
        await post(running)
        await browser.evaluate(press("Resume all shadows"))
        await browser.wait("document.querySelector('#paused').hidden")
        await post(running)
        paused, asked = await running.records()
        assert {leg.outcome for leg in paused.shadows.values()} == {Outcome.PAUSED}
        assert {leg.outcome for leg in asked.shadows.values()} == {Outcome.OK}


async def test_a_percent_typed_on_the_page_holds(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, **ADMIN) as running:
        await opened(browser, running)
        await browser.evaluate(f"{CARD}.querySelector('input').select()")
        await browser.type("12.5")
        await browser.press("Enter", 13, "\r")
        await browser.wait(shows("MIRRORING 12.5", CARD))
        await browser.wait(shows("the file says 100 %", CARD))
        assert (await told(running, "shadows"))["shadows"]["a"]["percent"] == 12.5


async def test_hostile_text_stays_text(proxy: StartProxy, browser: Browser) -> None:
    body = ATTACK.replace('"', '\\"').encode()
    hostile = always(answer(b'{"a":"%b","' % body + body + b'":"\\u202e"}', JSON))
    async with proxy(LIVE, {"other": hostile}, **ADMIN) as running:
        await opened(browser, running)
        await post(running, b'{"%b":"%b"}' % (body, body), path=b"/<img/src=x/onerror=window.hurt=1>?q=<b>")
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        await browser.evaluate("document.querySelector('#differences summary').click()")
        await browser.wait("document.querySelectorAll('#differences pre').length === 3")
        shown = await browser.evaluate("document.body.innerText")
        assert shown.count("<img/src=x/onerror=window.hurt=1>") == 2  # in the line and above the request's body
        assert ATTACK.replace('"', '\\"') in shown
        assert "\u202e" not in shown
        assert "\\u202e" in shown
        assert await browser.evaluate("document.querySelectorAll('main img, main script, main b b').length") == 0
        assert await browser.evaluate("window.hurt") is None
        assert {address for address in browser.requests if not address.startswith(root(running))} == set()
        assert browser.complaints == []


@pytest.mark.parametrize(
    "deed",
    [
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.hurt=1'}))",
        "eval('window.hurt=1')",
    ],
)
async def test_the_browser_itself_refuses_markup_and_other_scripts(
    proxy: StartProxy, browser: Browser, deed: str
) -> None:
    async with proxy(LIVE, **ADMIN) as running:
        await opened(browser, running)
        # Later and not at once: what the tools evaluate themselves is freed of some of the policy.
        tried = f"try {{ {deed}; done('done') }} catch (error) {{ done('' + error) }}"
        caught = await browser.evaluate(f"new Promise((done) => setTimeout(() => {{ {tried} }}))")
        assert "TrustedHTML" in caught or "TrustedScript" in caught or "Content Security Policy" in caught, caught
        assert await browser.evaluate("window.hurt") is None


async def test_nothing_is_sent_anywhere_else(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"other": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        assert len(browser.requests) >= 3
        assert {address for address in browser.requests if not address.startswith(root(running))} == set()
        refused = await browser.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => '' + error)")
        assert refused != "sent"
        assert any("Content Security Policy" in complaint for complaint in browser.complaints)


async def test_without_a_shadow_it_says_how_to_add_one(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, **ADMIN) as running:
        await opened(browser, running)
        assert await browser.evaluate(shows("NO SHADOW IS CONFIGURED"))
        assert await browser.evaluate(shows("challenger: {url: http://model-v2:8000}"))


async def test_a_lost_connection_is_shown_and_made_again(tmp_path: Path, browser: Browser) -> None:
    start, unused_port = starter(tmp_path), free_port()
    async with start(LIVE, {"a": SAME}, admin=f"127.0.0.1:{unused_port}") as running:
        await opened(browser, running)
        await browser.wait(shows("Connected; as of"))
    await browser.wait(shows("Not connected: the sidecar"))
    assert await browser.evaluate("document.querySelector('#all').disabled")
    async with start(LIVE, {"a": SAME}, admin=f"127.0.0.1:{unused_port}"):
        await browser.wait(shows("Connected; as of"))
        assert not await browser.evaluate("document.querySelector('#all').disabled")


async def test_the_token_is_asked_for_and_stays_in_the_tab(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, admin_token="the-right-one-of-them", **ADMIN) as running:
        await browser.open(root(running))
        await browser.wait("document.querySelector('#ask')?.open")
        await browser.type("the-wrong-one")
        await browser.press("Enter", 13, "\r")
        await browser.wait(shows("must be Bearer and the configured admin_token", "document.querySelector('#why')"))
        assert await browser.evaluate("document.querySelector('#main').hidden")
        await browser.type("the-right-one-of-them")
        await browser.press("Enter", 13, "\r")
        await browser.wait("!document.querySelector('#main').hidden")
        await browser.evaluate(press("Pause all shadows"))
        await browser.wait(shows("Every shadow is paused"))
        kept = "JSON.stringify([localStorage.length, document.cookie, Object.values(sessionStorage)])"
        assert await browser.evaluate(kept) == '[0,"",["the-right-one-of-them"]]'
        assert not any("the-right-one" in address for address in browser.requests)
        await browser.evaluate(press("Forget the token"))
        assert await browser.evaluate("sessionStorage.length") == 0


@pytest.mark.timing
async def test_an_operator_without_a_token_is_asked_once(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, admin_token="the-right-one-of-them", **ADMIN) as running:
        await browser.open(root(running))
        await browser.wait("document.querySelector('#ask')?.open")
        await browser.press("Escape", 27)
        await browser.wait(shows("Not connected: admin_token is configured"))
        await asyncio.sleep(1.0)
        assert not await browser.evaluate("document.querySelector('#ask').open")
        await browser.evaluate(press("Give the token"))
        await browser.wait("document.querySelector('#ask').open")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_it_fits(proxy: StartProxy, browser: Browser, width: int, dark: bool) -> None:
    await browser.look(width, 900, dark=dark)
    names = {"a": OTHER, "x" * 63: OTHER}
    async with proxy(LIVE, names, **ADMIN) as running:
        await opened(browser, running)
        await post(running, b'{"x":"%b"}' % (b"long" * 500), path=b"/" + b"p" * 300)
        await browser.wait("document.querySelectorAll('#differences li').length === 2")
        await browser.evaluate("document.querySelectorAll('#differences summary').forEach(each => each.click())")
        await browser.wait("document.querySelectorAll('#differences pre').length === 6")
        assert await browser.evaluate("document.documentElement.scrollWidth") == width
        beyond = (
            "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        )
        assert await browser.evaluate(f"{beyond}.map(e => e.outerHTML.slice(0, 80))") == []
        background = await browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", background))) < 128) is dark


async def test_the_keyboard_reaches_everything(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": OTHER}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        await browser.wait("document.querySelectorAll('#differences li').length === 1")
        kinds = "button:enabled, input, select, summary, a"
        wanted = await browser.evaluate(
            f"[...document.querySelectorAll('{kinds}')].filter(e => e.checkVisibility()).length"
        )
        reached = []
        for _ in range(wanted):
            await browser.press("Tab", 9)
            reached.append(await browser.evaluate("document.activeElement.outerHTML.slice(0, 120)"))
            assert await browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert len(set(reached)) == wanted, reached


async def test_every_control_has_a_name_of_its_own(proxy: StartProxy, browser: Browser) -> None:
    """As what reads the page aloud has it: the browser's accessibility tree."""
    async with proxy(LIVE, {"a": OTHER, "b": SAME}, **ADMIN) as running:
        await opened(browser, running)
        nodes = (await browser.send("Accessibility.getFullAXTree"))["nodes"]
        roles = {"button", "spinbutton", "combobox", "link"}
        names = [node["name"]["value"] for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
        assert "" not in names
        assert len(set(names)) == len(names), names
        assert {"Pause a", "Pause b", "Percent of a", "Pause all shadows"} <= set(names)


@pytest.mark.timing
async def test_a_hidden_tab_requests_nothing(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, **ADMIN) as running:
        await opened(browser, running)
        this = await browser.look_elsewhere()
        await browser.wait("document.hidden")
        before = await browser.evaluate("document.querySelector('#connection').innerText")
        await asyncio.sleep(2.5)  # two events' time
        assert await browser.evaluate("document.querySelector('#connection').innerText") == before
        await browser.look_back(this)
        await browser.wait(f"document.querySelector('#connection').innerText !== {before!r}")
        assert await browser.evaluate(shows("Connected; as of"))


async def test_live_asked_twice_is_shown_beside_the_shadows(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, control={"percent": 100}, **ADMIN) as running:
        await opened(browser, running)
        await post(running)
        control = "document.querySelectorAll('#shadows article')[1]"
        await browser.wait(shows("1 match", control))
        assert await browser.evaluate(shows("live asked a second time", control))
        await browser.evaluate(f"{control}.querySelector('[aria-label=\"Pause control\"]').click()")
        await browser.wait(shows("PAUSED", control))


async def test_it_says_why_nothing_is_compared(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, {"a": SAME}, compare={"online": False}, **ADMIN) as running:
        await opened(browser, running)
        assert await browser.evaluate(shows("No answer was compared in the last 5 min.", CARD))
        await post(running)
        await browser.wait(shows("with compare.online: false, nothing is compared", CARD))


async def test_a_reload_is_seen_whether_it_was_taken_or_refused(tmp_path: Path, browser: Browser) -> None:
    async with Origin(LIVE) as live, Origin(SAME) as shadow:
        values: dict[str, Any] = {"admin": f"127.0.0.1:{free_port()}", "live": {"url": live.url}}
        async with Program(tmp_path, values | {"shadows": {"old": {"url": shadow.url}}}) as program:
            await browser.open(f"http://{values['admin']}/")
            await browser.wait(shows("old", CARD))
            program.configure(values | {"shadows": {"old": {"url": shadow.url, "percnt": 5}}})
            program.signal(signal.SIGHUP)
            await browser.wait(shows("percnt: unknown key", "document.querySelector('#reload')"))
            assert await browser.evaluate(shows("configuration 1 of"))
            program.configure(values | {"shadows": {"new": {"url": shadow.url}}})
            program.signal(signal.SIGHUP)
            await browser.wait(shows("new", CARD))
            assert await browser.evaluate("document.querySelector('#reload').hidden")
            assert await browser.evaluate(shows("configuration 2 of"))
            assert await browser.evaluate("document.querySelectorAll('#shadows article').length") == 1
            assert browser.complaints == []
            assert await program.stop() == 0


def overview(mirrored: tuple[int, float, float], alone: tuple[int, float, float], **outcomes: int) -> dict[str, Any]:
    """What `untouched` looks at: requests, p50 and p99 with mirroring and without, and outcomes beside `ok`."""
    shed = outcomes.pop("overload", 0)
    latency = {
        side: {"count": count, "p50_ms": p50, "p99_ms": p99}
        for side, (count, p50, p99) in (("mirrored", mirrored), ("not_mirrored", alone))
    }
    answered = mirrored[0] + alone[0]
    return {
        "window_seconds": 300,
        "live": {"latency": latency, "outcomes": ({"ok": answered} if answered else {}) | outcomes},
        "shadows": [{"outcomes": {"ok": mirrored[0] - shed} | ({"overload": shed} if shed else {})}],
        "overload": {"loop_lag_ms": 0.2},
    }


HEADLINES = [
    (overview((0, 0, 0), (0, 0, 0)), "NO REQUEST YET"),
    (overview((5000, 10, 30), (5000, 10, 30)), "LIVE IS UNTOUCHED"),
    (overview((5000, 11.9, 35), (5000, 10, 30)), "LIVE IS UNTOUCHED"),  # under 20 % more
    (overview((5000, 12.1, 30), (5000, 10, 30)), "MIRRORED REQUESTS WERE SLOWER"),
    (overview((5000, 10, 37), (5000, 10, 30)), "MIRRORED REQUESTS WERE SLOWER"),
    (overview((5000, 1.4, 1.9), (5000, 0.5, 1)), "LIVE IS UNTOUCHED"),  # under 1 ms more
    (overview((500, 10, 90), (500, 10, 30)), "LIVE IS UNTOUCHED"),  # too few for a p99
    (overview((500, 20, 90), (99, 10, 30)), "LIVE ANSWERS"),  # too few for a p50
    (overview((5000, 10, 30), (0, 0, 0)), "LIVE ANSWERS"),
    (overview((0, 0, 0), (5000, 10, 30)), "LIVE ANSWERS"),
    (overview((5000, 10, 30), (5000, 10, 30), timeout=1), "LIVE DOES NOT ANSWER ALL"),
    (overview((0, 0, 0), (0, 0, 0), connect_error=3), "LIVE DOES NOT ANSWER ALL"),
    (overview((5000, 10, 30), (5000, 10, 30), caller_left=9), "LIVE IS UNTOUCHED"),  # no fault of live's
    (overview((5000, 10, 30), (5000, 10, 30), overload=51), "THE PROXY WAS OVERLOADED"),
    (overview((5000, 10, 30), (5000, 10, 30), overload=50), "LIVE IS UNTOUCHED"),
]


async def test_the_headline_says_no_more_than_is_known(proxy: StartProxy, browser: Browser) -> None:
    async with proxy(LIVE, **ADMIN) as running:
        await opened(browser, running)
        said = await browser.evaluate(
            f"{json.dumps([told for told, _ in HEADLINES])}.map((told) => untouched(told)[1])"
        )
    assert said == [headline for _, headline in HEADLINES]


async def test_a_percent_that_rises_says_where_it_stands_and_can_be_resumed(
    proxy: StartProxy, browser: Browser
) -> None:
    options = {"percent": {"from": 1, "over": "1h"}}
    async with proxy(LIVE, {"other": OTHER}, shadow_options=options, **ADMIN) as running:
        await opened(browser, running)
        await browser.wait(shows("MIRRORING 1\u00a0%"))
        await browser.wait(shows("Ramp RISING at 1\u00a0%, next to 2\u00a0% at "))
        await browser.wait(shows("Steps: 0 up, 0 back."))
        await browser.evaluate(f"{CARD}.querySelector('input').value = '5'")
        await browser.evaluate(press("Set"))
        await browser.wait(
            shows("Ramp STANDS STILL at 4\u00a0%; an operator has set 5 %, until the shadow is resumed.")
        )
        await browser.evaluate(press("Resume"))
        await browser.wait(shows("MIRRORING 4\u00a0%"))
        await browser.wait(shows("Ramp RISING at 4\u00a0%"))
        assert await browser.evaluate(press("Pause") + "; true")
        await browser.wait(shows("an operator has paused it"))
        assert browser.complaints == []
