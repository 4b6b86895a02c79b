"""A real Chromium, driven through its own protocol (https://chromedevtools.github.io/devtools-protocol/) over a pipe."""

import base64
import json
import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import installed

SECONDS_MAX = 60.0
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    # Whatever is not this machine can not be reached, so an asset from elsewhere would be missed.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Screen:
    """What the page is looked at on."""

    name: str
    width: int
    height: int
    dark: bool = False


WIDE = Screen("wide", 1280, 900)


class Browser:
    """One page of one browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = bytearray()
        self._number = 0
        self._session: str | None = None
        self._events: deque[dict[str, Any]] = deque()
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a page; it may not be drawn yet."""
        self._ask("Page.navigate", url=url)

    def show_on(self, screen: Screen) -> None:
        """From now on the page is as wide, and as dark, as that."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=screen.width,
            height=screen.height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if screen.dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, expression: str) -> Any:
        """What an expression of JavaScript is, promises waited for."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            pytest.fail(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What is written in the first element that fits, as it is seen; empty without one."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def press(self, key: str) -> None:
        """A key of the keyboard, down and up."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        fields = {"key": key, "windowsVirtualKeyCode": codes[key], "text": text}
        self._ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **fields)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **fields)

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """Poll until it holds; fail with what the page shows when that takes too long."""
        deadline = time.monotonic() + SECONDS_MAX
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not {what} within {SECONDS_MAX:.0f} s; the page says:\n{self.text('body')}")
            time.sleep(0.05)

    def picture(self, path: Path, screen: Screen) -> None:
        """What a screen shows of the page, from its top, as a PNG."""
        clip = {"x": 0, "y": 0, "width": screen.width, "height": screen.height, "scale": 1}
        data = self._ask("Page.captureScreenshot", format="png", clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def faults(self) -> list[str]:
        """Errors in scripts and refusals of the browser, Content-Security-Policy included, since the start."""
        self.run("0")
        found = []
        for event in self._events:
            match event["method"], event["params"]:
                case "Runtime.exceptionThrown", params:
                    found.append(json.dumps(params["exceptionDetails"]))
                case "Log.entryAdded", {"entry": {"level": "error", "text": text, **entry}}:
                    found.append(f"{text} {entry.get('url', '')}")
        return found

    def asked_for(self) -> list[str]:
        """The URLs that the page has fetched."""
        self.run("0")
        return [one["params"]["request"]["url"] for one in self._events if one["method"] == "Network.requestWillBeSent"]

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    pytest.fail(f"{method}: {answer['error']}")
                return dict(answer["result"])
            if "method" in answer:
                self._events.append(answer)

    def _next(self) -> dict[str, Any]:
        while (end := self._buffer.find(b"\0")) < 0:
            if not select.select([self._answers], [], [], SECONDS_MAX)[0]:
                pytest.fail(f"the browser says nothing for {SECONDS_MAX:.0f} s")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                pytest.fail("the browser has ended")
            self._buffer += piece
        message = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        return dict(message)


@contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """A browser within this block, with nothing remembered from before."""
    command = [installed("chromium", "chromium"), *OPTIONS, f"--user-data-dir={folder / 'profile'}"]
    its_input, commands = os.pipe()
    answers, its_output = os.pipe()
    with (folder / "chromium.log").open("wb") as log:
        # Chromium reads from descriptor 3 and writes to 4. It has children of its own, which end with its group.
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{its_input} 4>&{its_output}', "chromium", *command],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(its_input)
    os.close(its_output)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)
        os.close(answers)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
