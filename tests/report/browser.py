"""A real browser without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import brotli
import cv2
import numpy as np
import pytest
from filelock import FileLock

from human.assets import cache_root, fetch, load_manifest
from human.errors import PosesynError

ASSET, VERSION = "headless_chromium", "147.0.0"
_SECONDS = 90  # for anything that takes a moment on a free machine


def chromium() -> Path:
    """The folder with the unpacked browser; skips the test where it cannot be had."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("the tests' browser is built for x86-64 Linux")
    if shutil.which("npm") is None:
        pytest.skip("no npm to fetch the tests' browser with")
    folder = cache_root() / f"chromium-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            try:
                packed = fetch(ASSET, manifest=load_manifest(Path(__file__).with_name("assets.toml")))
            except PosesynError as error:
                pytest.skip(f"the tests' browser cannot be fetched: {error}")
            partial = Path(tempfile.mkdtemp(dir=folder.parent))
            for name in ("al2023", "fonts"):
                with tarfile.open(
                    fileobj=io.BytesIO(brotli.decompress((packed / f"{name}.tar.br").read_bytes()))
                ) as tar:
                    tar.extractall(partial, filter="data")
            (partial / "fonts.conf").write_text(
                f"<fontconfig><dir>{folder / 'fonts'}</dir><cachedir>{folder / 'cache'}</cachedir></fontconfig>"
            )
            (partial / "chromium").write_bytes(brotli.decompress((packed / "chromium.br").read_bytes()))
            (partial / "chromium").chmod(0o755)
            partial.rename(folder)
    return folder


class Browser:
    """One page of a browser of its own; ``async with Browser(width, height) as page``."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.events: list[dict[str, Any]] = []
        self._count = 0

    async def __aenter__(self) -> Self:
        home = chromium()
        self._profile = tempfile.mkdtemp()
        paths = {
            "LD_LIBRARY_PATH": str(home / "lib"),
            "FONTCONFIG_FILE": str(home / "fonts.conf"),
            "HOME": self._profile,
        }
        flags = ["--headless=shell", "--no-sandbox", "--disable-gpu", "--no-zygote", "--disable-dev-shm-usage"]
        own = [
            f"--user-data-dir={self._profile}",
            "--remote-debugging-port=0",
            "--window-size={},{}".format(*self.size),
        ]
        self._process = subprocess.Popen(
            [str(home / "chromium"), *flags, *own, "about:blank"],
            env={**os.environ, **paths},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        said, until = Path(self._profile) / "DevToolsActivePort", time.monotonic() + _SECONDS
        while not (said.is_file() and said.read_text().strip()):
            assert self._process.poll() is None, "the browser ended at once"
            assert time.monotonic() < until, "the browser does not start"
            await asyncio.sleep(0.05)
        port = said.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        pages = await (await self._session.get(f"http://127.0.0.1:{port}/json/list")).json()
        page = next(p for p in pages if p["type"] == "page")
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._session.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        while True:
            message = json.loads((await asyncio.wait_for(self._socket.receive(), _SECONDS)).data)
            if message.get("id") == self._count:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    async def run(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        said = await self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def open(self, path: Path, ready: str) -> float:
        """Open a file and wait until the expression ``ready`` is true; seconds since the navigation began."""
        await self.call("Page.navigate", url=path.absolute().as_uri())
        until = time.monotonic() + _SECONDS
        while not await self.run(ready):
            assert time.monotonic() < until, f"{ready} never came true"
            await asyncio.sleep(0.02)
        return float(await self.run("performance.now()")) / 1000

    async def picture(self) -> np.ndarray:
        """(H,W,3) uint8 BGR of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        coded = np.frombuffer(base64.b64decode(shot["data"]), np.uint8)
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))

    def problems(self) -> list[str]:
        """What the page's console complained of, and requests that left the page."""
        out = []
        for event in self.events:
            method, p = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                out.append(str(p["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
                out.append(str(p["args"]))
            elif method == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"):
                out.append(p["entry"]["text"])
            elif method == "Network.requestWillBeSent" and not p["request"]["url"].startswith(("file:", "data:")):
                out.append(f"asked for {p['request']['url']}")
        return out
