"""Label files: what was written is read; what is damaged, missing or hostile is one clear error, and nothing runs."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datamodules.readers import files
from human.errors import PosesynError


class Bomb:
    """Leaves a mark when it is unpickled the ordinary way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["3D"] = np.arange(6.0).reshape(2, 3)
        file["deep/inner/seq"] = np.array([1, 2])
        file["names"] = ["a", "ü"]


def write_tar(path: Path, entries: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


WRITE: dict[str, Callable[[Path], object]] = {
    "pickle": lambda p: p.write_bytes(pickle.dumps({"poses": [np.eye(3)], "genders": ["m"]}, 2)),
    "npz": lambda p: np.savez(p.open("wb"), shapes=np.ones((2, 10)), genders=np.array(["m", "f"], object)),
    "json": lambda p: p.write_text(json.dumps({"frames": [1, 2]})),
    "mat": lambda p: savemat(p, {"joints": np.ones((3, 14, 2)), "info": {"scale": 2.0}}, appendmat=False),
    "h5": write_h5,
    "xml": lambda p: p.write_text('<?xml version="1.0"?><opencv_storage><rows>3</rows></opencv_storage>'),
    "tar": lambda p: write_tar(p, {"a/b.txt": b"x" * 5000, "c": b"yz"}),
    "text": lambda p: p.write_text("one\ntwo\n"),
}
READ: dict[str, Callable[[Path], Any]] = {
    "pickle": files.read_pickle,
    "npz": files.read_npz,
    "json": files.read_json,
    "mat": lambda p: files.read_mat(p, ["joints", "info"]),
    "h5": files.read_h5,
    "xml": files.read_xml,
    "tar": lambda p: dict(files.read_tar(p)),
    "text": files.read_text,
}


@pytest.fixture
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"labels.{request.param}"
    WRITE[request.param](path)
    return path


def kind(path: Path) -> str:
    return path.suffix[1:]


def test_each_kind_is_read_as_written(tmp_path: Path) -> None:
    got = {}
    for name, write in WRITE.items():
        write(tmp_path / name)
        got[name] = READ[name](tmp_path / name)
    np.testing.assert_array_equal(got["pickle"]["poses"][0], np.eye(3))
    assert got["pickle"]["genders"] == ["m"]
    np.testing.assert_array_equal(got["npz"]["shapes"], np.ones((2, 10)))
    assert got["npz"]["genders"].tolist() == ["m", "f"]
    assert got["json"] == {"frames": [1, 2]}
    assert got["mat"]["joints"].shape == (3, 14, 2)
    assert got["mat"]["info"]["scale"] == 2.0
    np.testing.assert_array_equal(got["h5"]["3D"], np.arange(6.0).reshape(2, 3))
    assert sorted(got["h5"]) == ["3D", "deep/inner/seq", "names"]
    assert got["h5"]["names"].tolist() == ["a", "ü"]
    assert got["xml"].find("rows").text == "3"
    assert got["tar"] == {"a/b.txt": b"x" * 5000, "c": b"yz"}
    assert got["text"] == "one\ntwo\n"


@pytest.mark.parametrize("written", WRITE, indirect=True)
def test_a_missing_empty_or_replaced_file_is_named(written: Path) -> None:
    read = READ[kind(written)]
    written.write_bytes(b"")
    with pytest.raises(PosesynError, match=rf"{written.name} is empty"):
        read(written)
    written.write_bytes(b"<!DOCTYPE html><html><body>Please log in</body></html>")
    with pytest.raises(PosesynError, match=rf"{written.name} is a web page"):
        read(written)
    written.unlink()
    with pytest.raises(PosesynError, match=rf"no label file .*{written.name}: unpack"):
        read(written)
    written.mkdir()
    with pytest.raises(PosesynError, match=rf"{written.name} cannot be read"):
        read(written)


@pytest.mark.parametrize("written", [k for k in WRITE if k != "text"], indirect=True)
def test_a_truncated_or_foreign_file_is_named(written: Path) -> None:
    read, whole = READ[kind(written)], written.read_bytes()
    for size in (len(whole) * 2 // 3, len(whole) // 3, 9):
        written.write_bytes(whole[:size])
        with pytest.raises(PosesynError, match=written.name):
            read(written)
    written.write_bytes(b"\x80\xff\x00 neither this nor that " * 20)
    with pytest.raises(PosesynError, match=written.name):
        read(written)


def test_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "split.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PosesynError, match=r"split\.txt is not text"):
        files.read_text(tmp_path / "split.txt")


def test_nothing_in_a_pickle_or_npz_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps({"poses": Bomb(mark)}))
    np.savez(tmp_path / "labels.npz", genders=np.array([Bomb(mark)], object))
    for read, name in ((files.read_pickle, "labels.pkl"), (files.read_npz, "labels.npz")):
        with pytest.raises(PosesynError, match=rf"{name}.* wants to run"):
            read(tmp_path / name)
    assert not mark.exists()
    pickle.loads((tmp_path / "labels.pkl").read_bytes())
    assert mark.exists()  # the bomb was a live one


def test_xml_with_entities_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    outside = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret.as_uri()}">]><a>&e;</a>'
    laughs = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    for text in (outside, laughs):
        (tmp_path / "k.xml").write_text(text)
        with pytest.raises(PosesynError, match=r"k\.xml declares a DOCTYPE"):
            files.read_xml(tmp_path / "k.xml")


def test_deep_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(PosesynError, match=r"deep\.json is damaged"):
        files.read_json(tmp_path / "deep.json")


def test_hdf5_follows_no_link_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["2D"] = np.ones(3)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["2D"] = h5py.ExternalLink("secret.h5", "2D")
    with pytest.raises(PosesynError, match=r"link\.h5 has no '2D'"):
        files.read_h5(tmp_path / "link.h5", ["2D"])
    (tmp_path / "raw").write_bytes(b"\1" * 24)
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("2D", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
    with pytest.raises(PosesynError, match=r"outside\.h5: /2D points to another file"):
        files.read_h5(tmp_path / "outside.h5")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "2D", (3,))
        file.create_virtual_dataset("2D", layout)
    with pytest.raises(PosesynError, match=r"virtual\.h5: /2D points to another file"):
        files.read_h5(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["a/b"] = np.ones(2)
        file["a/a"] = file["a"]  # a hard link to itself
    assert "a/b" in files.read_h5(tmp_path / "circle.h5")


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in ("npz", "mat", "h5", "pickle"):
        WRITE[name](tmp_path / name)
    assert list(files.read_pickle(tmp_path / "pickle", ["genders"])) == ["genders"]
    with pytest.raises(PosesynError, match="pickle has no 'trans'"):
        files.read_pickle(tmp_path / "pickle", ["trans"])
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(PosesynError, match=r"list\.pkl holds no dictionary"):
        files.read_pickle(tmp_path / "list.pkl", ["trans"])
    with pytest.raises(PosesynError, match="npz has no 'poses'"):
        files.read_npz(tmp_path / "npz", ["poses"])
    with pytest.raises(PosesynError, match="mat has no 'RELEASE'"):
        files.read_mat(tmp_path / "mat", ["RELEASE"])
    with pytest.raises(PosesynError, match="h5 has no 'deep/cam'"):
        files.read_h5(tmp_path / "h5", ["deep/inner/seq", "deep/cam"])
    (tmp_path / "new.mat").write_bytes((tmp_path / "h5").read_bytes())
    with pytest.raises(PosesynError, match=r"7\.3"):
        files.read_mat(tmp_path / "new.mat", ["joints"])


def test_tar_keeps_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for name in ("../evil", "/etc/evil", "x/../../evil"):
        write_tar(path, {"good": b"1", name: b"2"}, "w")
        with pytest.raises(PosesynError, match=r"a\.tar names the file .*evil"):
            dict(files.read_tar(path))
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert dict(files.read_tar(path)) == {}


@pytest.mark.parametrize(
    "name",
    [
        "../up.jpg",
        "a/../../up.jpg",
        "/etc/passwd",
        "..\\up.jpg",
        "C:\\x.jpg",
        "C:/x.jpg",
        "",
        ".",
        "a\0b",
        None,
        7,
        b"x",
    ],
)
def test_a_name_that_leads_out_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"labels\.json names the file"):
        files.safe_join(tmp_path, name, "labels.json")


def test_a_name_inside_is_kept(tmp_path: Path) -> None:
    assert files.safe_join(tmp_path, "images/a..b.jpg", "l") == tmp_path / "images" / "a..b.jpg"
    assert files.safe_name("./images\\seq\\1.jpg", "l") == "images/seq/1.jpg"


def test_shapes_are_told(tmp_path: Path) -> None:
    assert files.shaped([[1, 2, 3]], (None, 3), "f", "betas").dtype == np.float64
    with pytest.raises(PosesynError, match=r"seq\.pkl: betas has the shape \(1, 2\), not \(any, 3\)"):
        files.shaped([[1, 2]], (None, 3), "seq.pkl", "betas")
    for wrong in ([[1], [1, 2]], "word", None, {}):
        with pytest.raises(PosesynError, match=r"seq\.pkl: betas"):
            files.shaped(wrong, (None, 3), "seq.pkl", "betas")
