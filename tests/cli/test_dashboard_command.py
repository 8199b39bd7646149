"""`posesyn dashboard`: the workspace as a file, and one sentence where W&B is out of reach."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from cli.dashboard import run
from cli.dashboard.build import PACKAGED, panels, read_definition
from human.errors import PosesynError

# Of wandb-workspaces itself.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")


def test_the_workspace_as_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--out", str(tmp_path / "new" / "workspace.json")])
    definition = read_definition(PACKAGED)
    assert f"{len(panels(definition))} panels" in capsys.readouterr().out
    spec = json.loads((tmp_path / "new" / "workspace.json").read_text())
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [s["name"] for s in sections] == [s["name"] for s in definition["sections"]]
    made = {p["config"].get("chartTitle"): p for s in sections for p in s["panels"]}
    curve = made["PA-MPJPE by data set, mm"]["config"]
    assert curve["metricRegex"] == "^val/.+/pa_mpjpe$"
    assert curve["useMetricRegex"] is True
    mined = next(p["config"] for title, p in made.items() if title and title.startswith("Mined people"))
    assert mined["xAxis"] == "refresh/number"
    assert mined["metrics"] == ["refresh/challenge_error", "refresh/challenge_error_after"]
    shares = made["Sources of the batches"]["config"]
    assert (shares["plotType"], shares["xAxis"]) == ("stacked-area", "epoch")
    pictures = [p["config"]["mediaKeys"] for s in sections for p in s["panels"] if p["viewType"] == "Media Browser"]
    assert ["pictures/challenges"] in pictures
    assert any({"pictures/samples/rendered", "pictures/samples/controlnet"} <= set(keys) for keys in pictures)


def test_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PosesynError, match="--entity"):
        run([])
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(PosesynError, match=r"me/posesyn cannot be reached or changed at W&B \(.*\): log in"):
        run(["--entity", "me"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """W&B's address on this machine, where a user is known and a view can be written; what it was asked."""
    asked: list[dict[str, Any]] = []
    user = {"id": "u", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
    answer = {"viewer": user, "upsertView": {"view": {"id": "v", "name": "nw-abc-v"}, "inserted": True}}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            content = json.dumps({"data": answer}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{http.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        wandb.teardown()  # it has read its variables
        yield asked
        wandb.teardown()
        http.shutdown()


def test_the_workspace_is_made_online(
    server: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--entity", "me", "--project", "mine"])
    assert capsys.readouterr().out.strip().endswith("/me/mine?nw=abc")
    (sent,) = (a["variables"] for a in server if "upsertView" in a["query"])
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("me", "mine", "posesyn")
    run(["--out", str(tmp_path / "workspace.json")])
    same, there = json.loads((tmp_path / "workspace.json").read_text()), json.loads(sent["spec"])
    titles = [
        [p["config"]["chartTitle"] for s in spec["section"]["panelBankConfig"]["sections"] for p in s["panels"]]
        for spec in (same, there)
    ]
    assert titles[0] == titles[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("]", "not a workspace definition"),
        ("name: x", "it needs `name` and a list of `sections`"),
        ("sections: [{panels: []}]", "a section needs `name`"),
        ("sections: [{name: a, panels: [{title: b}]}]", "a panel has one of lines"),
        ("sections: [{name: a, panels: [{lines: [b], bars: [b]}]}]", "a panel has one of lines"),
        ("sections: [{name: a, panels: [{lines: [b], colour: red}]}]", "the unknown colour"),
        ("sections: [{name: a, panels: [{lines: [b], x: time}]}]", "x='time'"),
        ("sections: [{name: a, panels: [{match: '('}]}]", "not a regular expression"),
        ("sections: [{name: a, panels: [{match: 'loss/(?!total).+'}]}]", "no look-ahead"),
    ],
)
def test_a_definition_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(PosesynError, match=message.replace("(", r"\(")):
        run(["--definition", str(path), "--out", str(tmp_path / "x.json")])
    with pytest.raises(PosesynError, match="not a workspace definition"):
        read_definition(tmp_path / "absent.yaml")
