"""`posesyn dashboard`: the workspace as a file, and one sentence where W&B is out of reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
