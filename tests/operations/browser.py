"""A headless Chromium, spoken to over its debugging protocol: one tab at a time, and all that it did."""

import asyncio
import base64
import json
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LIMIT = 60


@contextmanager
def chromium(home: Path) -> Iterator[str]:
    """The address of its debugging socket. It can reach nothing but loopback."""
    options = (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-extensions", "--disable-default-apps", "--remote-debugging-port=0",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={home}",
    )  # fmt: skip
    with Path(home, "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [str(CHROMIUM), *options, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        port_file, deadline = home / "DevToolsActivePort", time.monotonic() + LIMIT
        while not (port_file.exists() and len(said := port_file.read_text().splitlines()) == 2):
            assert process.poll() is None, Path(home, "chromium.log").read_text()
            assert time.monotonic() < deadline, "chromium opens no debugging port"
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{said[0]}{said[1]}"
    finally:
        process.send_signal(signal.SIGTERM)  # it ends its own children
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Tab:
    """One page. `requests` are the URLs it asked for, `complaints` what its console said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            else:
                self._note(told["method"], told.get("params", {}))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif method in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown"}:
            self.complaints.append(str(told))

    async def __call__(self, method: str, **told: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self.session} if self.session else {}
        await self._socket.send_json({"id": number, "method": method, "params": told, **session})
        said = await asyncio.wait_for(answer, LIMIT)
        assert "error" not in said, (method, said)
        return said["result"]

    async def show(self, *, width: int, height: int, dark: bool, scripts: bool = True) -> None:
        """How the next page is shown."""
        await self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self("Emulation.setEmulatedMedia", features=[scheme])
        await self("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def go(self, url: str) -> None:
        self._loaded.clear()
        await self("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), LIMIT)

    async def press(self, selector: str) -> None:
        """Click, and wait for the page that follows."""
        self._loaded.clear()
        await self.value(f"document.querySelector({json.dumps(selector)}).click()")
        await asyncio.wait_for(self._loaded.wait(), LIMIT)

    async def double_click(self, selector: str) -> None:
        """Click twice with the mouse, at the speed of a hand, whatever the first click has begun."""
        box = await self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        at: dict[str, Any] = {"x": box[0], "y": box[1], "button": "left"}
        answers = []
        for clicks in (1, 2):
            for kind in ("mousePressed", "mouseReleased"):
                sent = self("Input.dispatchMouseEvent", type=kind, clickCount=clicks, **at)
                answers.append(asyncio.ensure_future(sent))
            await asyncio.sleep(0.15)
        await asyncio.wait(answers)

    async def value(self, expression: str) -> Any:
        """What an expression of ours is worth on the page. It runs also where the page's own scripts may not."""
        said = await self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def screenshot(self) -> bytes:
        """The whole page as PNG, however long."""
        said = await self("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(said["data"])


@asynccontextmanager
async def tab(address: str) -> AsyncIterator[Tab]:
    """A fresh tab with cookies of its own, which notes all from its first request on."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(address, max_msg_size=0) as socket,
    ):
        one = Tab(socket)
        listening = asyncio.create_task(one.listen())
        context = (await one("Target.createBrowserContext"))["browserContextId"]
        target = (await one("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        one.session = (await one("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            await one(f"{domain}.enable")
        try:
            yield one
        finally:
            one.session = None
            await one("Target.disposeBrowserContext", browserContextId=context)  # and its tab
            listening.cancel()
