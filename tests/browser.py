"""A headless Chromium, driven over its own protocol (the Chrome DevTools Protocol), with nothing to install beside the package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3
import websocket  # locked, since the Kubernetes client needs it

# As root, as in CI, Chromium has no sandbox; what it opens is our own.
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"),
)
ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard")
AXE = (
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
STARTS_SECONDS = ANSWERS_SECONDS = 60
KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
}


class Page:
    """One tab."""

    def __init__(self, socket: websocket.WebSocket):
        self._socket, self._number = socket, 0
        self.events: list[dict] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict:
        """Send one command, and give its result; what happens meanwhile is kept in `events`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path) -> None:
        """Open a file and wait until it has loaded."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))

    def look(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Make the window this large, and of this theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str) -> Any:
        """Evaluate a script and give its value; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def await_(self, script: str) -> None:
        """Wait until a script gives true: what follows a key may be done a moment later."""
        end = time.monotonic() + ANSWERS_SECONDS
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **KEYS[key])

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        for letter in text:
            self.send("Input.dispatchKeyEvent", type="keyDown", key=letter, text=letter)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def axe(self) -> list[tuple]:
        """What axe-core finds wrong with the page for those who can't see it well: rule, element, what to do."""
        self.run(_axe())
        found = self.run("axe.run().then(({violations, passes}) => ({violations, passes: passes.length}))")
        assert found["passes"] > 20
        wrong = [(one["id"], node) for one in found["violations"] for node in one["nodes"]]
        return [(name, node["target"], node["failureSummary"]) for name, node in wrong]

    def picture(self, quality: int = 0) -> bytes:
        """Give a picture of the window: a PNG, or a WebP of a quality up to 100."""
        given = {"format": "webp", "quality": quality} if quality else {"format": "png"}
        return base64.b64decode(self.send("Page.captureScreenshot", **given)["data"])

    def printed(self) -> bytes:
        """Give the page as it is printed, a PDF."""
        return base64.b64decode(self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    @property
    def complaints(self) -> list[str]:
        """What the page was refused, or did wrong, since it was opened."""
        told = [event["params"]["entry"]["text"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [str(event["params"]) for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        return told + thrown

    @property
    def asked(self) -> list[str]:
        """Every URL that was asked for since the page was opened."""
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]  # fmt: skip


@functools.cache
def _axe() -> str:
    """axe-core's program, fetched once."""
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "tools" / "vendor.py")
    vendor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vendor)
    file = CACHE / "npm" / f"{AXE[0]}-{AXE[1]}.js"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            content = vendor.member(vendor.fetched(*AXE), "axe.min.js")
            file.with_suffix(".new").write_bytes(content)
            file.with_suffix(".new").replace(file)
    return file.read_text(encoding="utf-8")


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """A tab of a browser of its own, which ends with it."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = subprocess.Popen(
            [program, f"--user-data-dir={home}", *OPTIONS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield _page(Path(home, "DevToolsActivePort"), browser)
        finally:
            browser.terminate()
            browser.wait(30)


def _page(file: Path, browser: subprocess.Popen) -> Page:
    end = time.monotonic() + STARTS_SECONDS
    while not (file.exists() and file.read_text().strip()):
        assert browser.poll() is None, f"chromium ended with {browser.returncode}"
        assert time.monotonic() < end, "chromium does not start"
        time.sleep(0.05)
    port = file.read_text().split()[0]
    (tab,) = (one for one in urllib3.request("GET", f"http://127.0.0.1:{port}/json").json() if one["type"] == "page")
    return Page(websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=120))
