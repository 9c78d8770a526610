"""A real browser, driven over its DevTools protocol: by the pipe, so that no port is opened and no library is needed.

Messages are JSON, each ended by a zero byte; the browser reads them on file descriptor 3 and answers on 4
(--remote-debugging-pipe). It has one tab, and keeps what that tab said: `requests` are the addresses it asked for,
`complaints` its errors, warnings and uncaught exceptions.
"""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 20.0
"""Seconds. A browser takes two to start on a machine that has nothing else to do."""


class Browser:
    """One headless Chromium with an empty profile below `directory`. Owns its process: use as `async with`."""

    def __init__(self, directory: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._profile = directory / "profile"
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.ReadTransport
        self._writer: asyncio.StreamWriter
        self._hearing: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        assert program, "these tests need Chromium: `make soak` installs it as root, else apt-get install chromium"
        low_in, ours_out = os.pipe()
        ours_in, low_out = os.pipe()
        # Out of the way of 3 and 4, or putting the one in its place would close the other.
        theirs_in, theirs_out = (fcntl.fcntl(low, fcntl.F_DUPFD, 10) for low in (low_in, low_out))
        options = [
            "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={self._profile}", "about:blank",
        ]  # fmt: skip
        if os.geteuid() == 0:
            options.insert(0, "--no-sandbox")  # Chromium's sandbox refuses to be root's
        self._process = await asyncio.create_subprocess_exec(
            "bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', program, *options,
            pass_fds=(theirs_in, theirs_out), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        for theirs in (low_in, low_out, theirs_in, theirs_out):
            os.close(theirs)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=64 << 20)
        self._reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb")
        )
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(ours_out, "wb"))
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self._hearing = loop.create_task(self._hear(reader))
        try:
            await self._attach()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)  # its own session: the children that draw and fetch are in it too
        await self._process.wait()
        self._writer.close()
        self._reading.close()  # its end need not come by itself: a crash handler may have the other side open too
        await self._hearing

    async def _attach(self) -> None:
        targets = (await self.send("Target.getTargets"))["targetInfos"]
        (page,) = [target for target in targets if target["type"] == "page"]
        attached = await self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable")

    async def send(self, method: str, *, of_tab: bool = True, **parameters: Any) -> dict[str, Any]:
        """Have the tab do it, or the browser as a whole, and return what it answers."""
        number = len(self._replies) + 1
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session and of_tab:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        answer = await asyncio.wait_for(reply, PATIENCE)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the tab, which may be a promise."""
        told = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, f"{expression}: {told['exceptionDetails']}"
        return told["result"].get("value")

    async def wait(self, expression: str, within: float = PATIENCE) -> Any:
        """Wait until the expression is true, and return its value."""
        try:
            async with asyncio.timeout(within):
                while not (value := await self.evaluate(expression)):  # noqa: ASYNC110  # a page has no event for it
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}\ncomplaints {self.complaints}\n{shown}") from None
        return value

    async def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed: dict[str, Any] = {"text": text} if text and kind == "keyDown" else {}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def look_elsewhere(self) -> str:
        """Put another tab in front, and return what to put this one back by."""
        this = (await self.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
        other = await self.send("Target.createTarget", of_tab=False, url="about:blank")
        await self.send("Target.activateTarget", of_tab=False, targetId=other["targetId"])
        return str(this)

    async def look_back(self, this: str) -> None:
        await self.send("Target.activateTarget", of_tab=False, targetId=this)

    async def look(self, width: int, height: int, *, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    async def picture(self) -> bytes:
        """The whole page, as PNG."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                if not (reply := self._replies[message["id"]]).done():
                    reply.set_result(message)
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, said: Mapping[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(said["args"]))
