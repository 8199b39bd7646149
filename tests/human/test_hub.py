"""Models of the hub: the hub's own client against a small server of its protocol on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from human.errors import PosesynError
from human.members import Member

COMMIT = "c0ffee" + "0" * 34
FILES = {"config.json": b"{}", "unet/weights.safetensors": b"w" * 1000, "unet/weights.bin": b"never asked for"}
MEMBERS = tuple(
    Member(p, len(FILES[p]), hashlib.sha256(FILES[p]).hexdigest()) for p in ("config.json", "unet/weights.safetensors")
)


class Hub(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _send(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/tiny/model/tree/"):
            rows = [
                {"type": "file", "path": p, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                for p, b in self.files.items()
            ]
            return self._send(json.dumps(rows).encode(), Content_Type="application/json")
        if path.startswith("/api/models/tiny/model"):
            listed = [{"rfilename": p} for p in self.files]
            told = {"id": "tiny/model", "sha": COMMIT, "siblings": listed, "private": False, "tags": [], "downloads": 0}
            return self._send(json.dumps(told).encode(), Content_Type="application/json")
        name = path.removeprefix(f"/tiny/model/resolve/{COMMIT}/")
        if name not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return None
        if self.command == "GET":
            self.asked.append(name)
        body = self.files[name]
        tag = hashlib.sha256(body).hexdigest()
        return self._send(body, ETag=f'"{tag}"', X_Repo_Commit=COMMIT, Content_Type="application/octet-stream")

    do_HEAD = do_GET


@pytest.fixture
def server() -> Iterator[str]:
    Hub.files, Hub.asked = dict(FILES), []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


# The client reads its environment when it is imported, hence a process for each machine.
SCRIPT = """
import json, sys
from human import hub
from human.errors import PosesynError
from human.members import Member
members = [Member(*m) for m in json.loads(sys.argv[1])]
here = lambda: hub.locate("tiny/model", sys.argv[2], members)
before = here()
try:
    print(json.dumps([str(before), str(hub.fetch("tiny", "tiny/model", sys.argv[2], members, 1002)), str(here())]))
except PosesynError as error:
    print(json.dumps(str(error)))
"""


def fetched(home: Path, endpoint: str, members: tuple[Member, ...] = MEMBERS, **environment: str) -> object:
    listed = json.dumps([[m.path, m.size, m.sha256] for m in members])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, listed, COMMIT],
        env=os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"} | environment,
        capture_output=True, text=True, check=True, timeout=500,
    )  # fmt: skip
    return json.loads(run.stdout.strip().splitlines()[-1])


def test_fetch_brings_the_members_only_and_repairs_them(server: str, tmp_path: Path) -> None:
    before, folder, after = fetched(tmp_path, server)  # type: ignore[misc]
    assert before == "None"
    assert folder == after
    assert {str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file()} == {m.path for m in MEMBERS}
    Hub.asked.clear()
    again = fetched(tmp_path, server, HF_HUB_OFFLINE="1")
    assert again == [folder] * 3
    assert Hub.asked == []  # nothing is downloaded twice, nor offline
    damaged = (Path(folder) / "unet/weights.safetensors").resolve()
    damaged.write_bytes(b"x" * 1000)
    assert fetched(tmp_path, server) == [folder] * 3  # presence and size are right; the hash is not
    assert (Path(folder) / "unet/weights.safetensors").read_bytes() == FILES["unet/weights.safetensors"]


def test_another_file_of_that_name_is_refused(server: str, tmp_path: Path) -> None:
    Hub.files["unet/weights.safetensors"] = b"v" * 1000
    assert "not the file that the manifest names" in str(fetched(tmp_path, server))
    free = (MEMBERS[0], Member("unet/weights.safetensors"))  # neither size nor hash known: whatever is served
    assert isinstance(fetched(tmp_path, server, free), list)


def test_a_pattern_is_whatever_files_there_are_but_at_least_one(server: str, tmp_path: Path) -> None:
    some = (MEMBERS[0], Member("unet/*.safetensors"))
    before, folder, after = fetched(tmp_path / "a", server, some)  # type: ignore[misc]
    assert (before, folder) == ("None", after)
    assert {p.name for p in Path(folder).rglob("*") if p.is_file()} == {"config.json", "weights.safetensors"}
    text = str(fetched(tmp_path / "b", server, (MEMBERS[0], Member("vae/*.safetensors"))))
    assert "vae/*.safetensors of tiny/model" in text


def test_offline_is_one_error_that_says_everything(server: str, tmp_path: Path) -> None:
    text = str(fetched(tmp_path, server, HF_HUB_OFFLINE="1"))
    for part in ("'tiny'", "could not be downloaded", "HF_HUB_OFFLINE", f"hf download tiny/model --revision {COMMIT}"):
        assert part in text
    assert "\n" not in text
    assert Hub.asked == []


def test_manifest_entries_of_the_hub_are_checked() -> None:
    from human.assets import Asset

    with pytest.raises(PosesynError, match="needs package"):
        Asset("a", "", "", "hub", "no-owner", COMMIT, download=1, members=MEMBERS)
    with pytest.raises(PosesynError, match="needs size and sha256"):
        Asset("a", "", "", "wheel", "p", "1", members=(Member("a"),))
    with pytest.raises(PosesynError, match="several files"):
        Asset("a", "", "", "hub", "o/n", COMMIT, download=1, members=(Member("a/*", 3),))
