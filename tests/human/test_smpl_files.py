"""Model files: every layout gives the same arrays; hostile, damaged and wrong files each end in one clear error."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from rich.console import Console

from cli.doctor import licensed_bodies
from human.body_folders import VARIABLE, VARIANTS, find_body_file, find_vertex_map, search_folders
from human.errors import PosesynError
from human.safe_pickle import ArrayFile, Unreadable, resolve, unpickle
from human.smpl_files import LAYOUTS, SmplFile, read_smpl_file, read_vertex_map
from tests.licensed_files import VERTICES, Ch, body_arrays, chumpy, npz, official_smpl, plain_pickle, write_python2


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_smpl(tmp_path_factory.mktemp("smpl") / "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", "male")


@pytest.fixture(autouse=True)
def no_bodies_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def assert_holds(file: SmplFile, kind: str, gender: str) -> None:
    wanted = body_arrays(kind, gender)
    assert file.kind == kind
    for key in ("v_template", "posedirs", "weights"):
        np.testing.assert_array_equal(getattr(file, key), wanted[key].astype(np.float32), err_msg=key)
    shapes = 10 if kind == "smplx" else wanted["shapedirs"].shape[2]
    np.testing.assert_array_equal(file.shapedirs, wanted["shapedirs"][:, :, :shapes].astype(np.float32))
    np.testing.assert_array_equal(file.expression, wanted["shapedirs"][:, :, shapes:].astype(np.float32))
    np.testing.assert_array_equal(file.faces, wanted["f"])
    np.testing.assert_array_equal(file.J_regressor.toarray(), wanted["J_regressor"].toarray())
    assert file.parents == (-1, *wanted["kintree_table"][0, 1:].tolist())
    if kind != "smpl":
        assert file.hands_mean is not None
        np.testing.assert_array_equal(file.hands_mean[1], wanted["hands_meanr"].astype(np.float32))


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_official_smpl_pickle_of_python_2_with_chumpy(official: Path) -> None:
    head = official.read_bytes()[:2]
    assert head == b"\x80\x02"
    for name in (
        b"chumpy.ch\nCh",
        b"chumpy.reordering\nSelect",
        b"scipy.sparse.csc\ncsc_matrix",
        b"numpy.core.multiarray",
    ):
        assert name in official.read_bytes(), name
    file = read_smpl_file(official, "smpl")
    assert_holds(file, "smpl", "male")
    assert file.mirror is not None


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_without_chumpy_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    def small(content: dict[str, Any]) -> None:
        content["posedirs"] = content["posedirs"].astype(np.float32)

    file = read_smpl_file(plain_pickle(tmp_path / "x.pkl", "smpl", change=small, protocol=protocol))
    assert_holds(file, "smpl", "neutral")


@pytest.mark.parametrize(("kind", "write"), [("smplh", npz), ("smplh", plain_pickle), ("smplx", npz)])
def test_hands_and_faces(tmp_path: Path, kind: str, write: Any) -> None:
    path = write(tmp_path / ("model" + (".npz" if write is npz else ".pkl")), kind, "female")
    file = read_smpl_file(path, kind)
    assert_holds(file, kind, "female")
    assert (file.uv is not None) == (kind == "smplx")


def test_content_decides_not_the_ending(tmp_path: Path) -> None:
    path = npz(tmp_path / "SMPLH_MALE.npz", "smplh", "male").rename(tmp_path / "SMPLH_MALE.pkl")
    assert read_smpl_file(path).kind == "smplh"


# --- the restricted reader -------------------------------------------------------------------------------------------


class Hostile:
    """Runs a command where an ordinary unpickler reads it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "posix.system"), (eval, "eval"), (np.load, "numpy.load"), (pickle.loads, "loads"),
     (getattr, "getattr"), (io.open_code, "open_code")],
)  # fmt: skip
def test_hostile_pickles_are_refused_by_name_and_run_nothing(tmp_path: Path, function: Any, named: str) -> None:
    proof = tmp_path / "ran"
    argument = f"touch {proof}" if function is os.system else f"open({str(proof)!r}, 'w')"
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps({"v_template": Hostile(function, argument)}, protocol=protocol))
        with pytest.raises(PosesynError, match=rf"SMPL_NEUTRAL.pkl wants to run .*{named}.*not loaded"):
            read_smpl_file(path)
    assert not proof.exists()


def test_hostile_table_inside_an_npz(tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "m.npz"
    np.savez(path, kintree_table=np.array(Hostile(os.system, f"touch {proof}"), object))
    with pytest.raises(PosesynError, match=r"m.npz .*system.*not loaded"):
        read_smpl_file(path)
    assert not proof.exists()


def test_a_forged_dtype_makes_no_pointers(tmp_path: Path) -> None:
    # numpy's own unpickling of dtype("O") with its "has objects" flag cleared would take these bytes for a pointer
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    dtype = b"(cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    stream = b"(dS'x'\n" + array + b"(I1\n(I1\nt" + dtype.replace(b"(cnumpy", b"cnumpy", 1) + b"I00\nS'AAAAAAAA'\ntbs."
    (tmp_path / "x.pkl").write_bytes(stream)
    file = ArrayFile(tmp_path / "x.pkl")
    with pytest.raises(PosesynError, match="'x' is damaged"):
        file["x"]


def test_stand_ins_cannot_be_changed_from_within(tmp_path: Path) -> None:
    # BUILD with (None, {"args": ...}) would set attributes on the stand-in class itself, for every later file
    stream = b"\x80\x02cnumpy\nndarray\nN}q\x00U\x04evilK\x01s\x86b."
    with pytest.raises(PosesynError, match="damaged"):
        unpickle(io.BytesIO(stream), "forged")
    array = np.arange(3)
    assert resolve(unpickle(io.BytesIO(pickle.dumps(array)), "fine")).tolist() == [0, 1, 2]


def test_arrays_of_all_sorts_survive(tmp_path: Path) -> None:
    content = {
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "big_endian": np.arange(5, dtype=">i4"),
        "scalar": np.float64(2.5),
        "text": np.array(["male", "female"]),
        "objects": np.array([{"a": 1}, [2, 3]], object),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "plain": {"nested": [1, (2.0, None)], "set": {1, 2}},
    }
    for protocol in range(6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        file = ArrayFile(tmp_path / "x.pkl")
        for key, value in content.items():
            found = file[key]
            if isinstance(value, np.ndarray):
                assert found.shape == value.shape
                assert found.dtype == value.dtype
                assert found.tolist() == value.tolist(), (key, protocol)
            else:
                assert found == value, (key, protocol)


@pytest.mark.parametrize("layout", ["csc", "csr", "coo"])
def test_sparse_matrices_survive_and_damaged_ones_do_not(tmp_path: Path, layout: str) -> None:
    matrix = scipy.sparse.random(7, 9, 0.4, format=layout, rng=np.random.default_rng(0))
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"m": matrix}, protocol=4))
    np.testing.assert_array_equal(ArrayFile(path)["m"].toarray(), matrix.toarray())
    index = matrix.coords[0] if layout == "coo" else matrix.indices
    index[0] = 1_000_000
    path.write_bytes(pickle.dumps({"m": matrix}, protocol=4))
    with pytest.raises(PosesynError, match="'m' is damaged"):
        ArrayFile(path)["m"]


def test_chumpy_expressions_matter_only_where_they_are_needed(official: Path, tmp_path: Path) -> None:
    j = ArrayFile(official)["J"]
    assert isinstance(j, Unreadable)
    assert j.kind == "chumpy.ch_ops.add"
    path = official_smpl(tmp_path / "x.pkl", change=lambda c: c.update(v_template=c["J"]))
    with pytest.raises(PosesynError, match=r"x.pkl: 'v_template' is a chumpy.ch_ops.add, which only chumpy"):
        read_smpl_file(path)


def test_agora_pickles_are_read(shared_data: Path) -> None:
    path = shared_data / "samples" / "agora" / "smplx_param_rm_personId_0.pkl"
    if not path.is_file():
        pytest.skip(f"no AGORA sample at {path}")
    with path.open("rb") as file:
        trusted = pickle.load(file)  # our own copy of a published sample
    params = ArrayFile(path)["params"]
    assert params.keys() == trusted["params"].keys()
    for key, value in trusted["params"].items():
        np.testing.assert_array_equal(params[key], value)


# --- bad files -------------------------------------------------------------------------------------------------------


def test_truncated_anywhere(official: Path, tmp_path: Path) -> None:
    data, path = official.read_bytes(), tmp_path / "cut.pkl"
    for length in (1, 40, 5000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(PosesynError, match=r"cut.pkl is damaged"):
            read_smpl_file(path)


def test_truncated_npz(tmp_path: Path) -> None:
    path = npz(tmp_path / "m.npz", "smplh", "male")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PosesynError, match=r"m.npz is a damaged .npz"):
        read_smpl_file(path)
    path.write_bytes(data[:100_000] + bytes(100_000) + data[200_000:])  # same length, a hole: the checksum tells
    with pytest.raises(PosesynError, match=r"m.npz.*damaged"):
        read_smpl_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>log in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "placeholder"),
        (b"hello", "damaged or no pickle"),
        (pickle.dumps([1, 2]), "no dictionary"),
        (pickle.dumps({"betas": [1.0]}), "has no 'kintree_table'; it has betas"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "SMPL_MALE.pkl").write_bytes(content)
    with pytest.raises(PosesynError, match=rf"SMPL_MALE.pkl.*{message}"):
        read_smpl_file(tmp_path / "SMPL_MALE.pkl")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pkl"):
        with pytest.raises(PosesynError, match="cannot be read"):
            read_smpl_file(path)


def test_another_body_than_asked_for(tmp_path: Path, official: Path) -> None:
    with pytest.raises(PosesynError, match=r"holds SMPL \(24 joints, 6890 vertices\), not SMPL-X"):
        read_smpl_file(official, "smplx")
    mano = {"kintree_table": np.array([[-1] + [0] * 15, range(16)]), "v_template": np.zeros((778, 3))}
    (tmp_path / "MANO_LEFT.pkl").write_bytes(pickle.dumps(mano))
    with pytest.raises(PosesynError, match=r"holds MANO \(16 joints, 778 vertices\), not SMPL or SMPL-H or SMPL-X"):
        read_smpl_file(tmp_path / "MANO_LEFT.pkl")


def _nan(key: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        content[key] = content[key].copy()
        content[key].flat[7] = np.nan

    return change


def _drop(key: str) -> Any:
    return lambda content: content.pop(key)


def _set(key: str, value: Any) -> Any:
    return lambda content: content.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan("v_template"), "'v_template' holds NaN"),
        (_nan("weights"), "'weights' holds NaN"),
        (_drop("posedirs"), "has no 'posedirs'; it has .*J_regressor"),
        (_drop("J_regressor"), "has no 'J_regressor'"),
        (_set("weights", np.ones((6890, 24))), "do not sum to 1"),
        (_set("weights", np.ones((6890, 23))), r"'weights' has shape \(6890, 23\), not \(6890, 24\)"),
        (_set("f", np.full((5, 3), 6890)), "'f' is no list of triangles over 6890"),
        (_set("v_template", np.zeros((100, 3))), "has 100 vertices where SMPL has 6890"),
        (_set("v_template", "none"), "'v_template' holds no numbers"),
        (_set("kintree_table", np.array([range(24), range(24)])), "no tree"),
        (_set("kintree_table", np.array([[-1, *range(23)], range(24)])), "not SMPL's tree"),
        (_set("J_regressor", scipy.sparse.csc_matrix((24, 7))), r"'J_regressor' has shape \(24, 7\)"),
    ],
)
def test_bad_content_is_named(tmp_path: Path, change: Any, message: str) -> None:
    def small(content: dict[str, Any]) -> None:
        content["posedirs"] = content["posedirs"].astype(np.float32)
        change(content)

    with pytest.raises(PosesynError, match=f"x.pkl.*{message}"):
        read_smpl_file(plain_pickle(tmp_path / "x.pkl", "smpl", change=small))


# --- vertex maps -----------------------------------------------------------------------------------------------------


def test_vertex_maps_in_smplx_layouts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random(VERTICES["smpl"], VERTICES["smplx"], 1e-4, format="csr", rng=rng)
    both = scipy.sparse.hstack([matrix, matrix * 9]).tocsc()  # the second half is for normals
    write_python2(tmp_path / "a.pkl", {"mtx": both})
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"matrix": matrix}))
    scipy.sparse.save_npz(tmp_path / "c.npz", matrix)
    for name in ("a.pkl", "b.pkl", "c.npz"):
        found = read_vertex_map(tmp_path / name)
        assert found.shape == (6890, 10475)
        assert abs(found - matrix.astype(np.float32)).max() == 0
    matrix.data[3] = np.nan
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"matrix": matrix}))
    with pytest.raises(PosesynError, match="NaN"):
        read_vertex_map(tmp_path / "d.pkl")
    (tmp_path / "e.pkl").write_bytes(pickle.dumps({"matrix": "no"}))
    with pytest.raises(PosesynError, match="no matrix"):
        read_vertex_map(tmp_path / "e.pkl")


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("smpl", "smpl/SMPL_NEUTRAL.pkl"),
        ("smpl", "SMPL_NEUTRAL.npz"),
        ("smpl", "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
        ("smpl_male", "SMPL_python_v.1.1.0/smpl/models/basicmodel_m_lbs_10_207_0_v1.1.0.pkl"),
        ("smpl_female", "smpl/models/basicModel_f_lbs_10_207_0_v1.0.0.pkl"),
        ("smplh_male", "smplh/male/model.npz"),
        ("smplh_female", "smplh/SMPLH_female.pkl"),
        ("smplh", "smplh16/neutral/model.npz"),
        ("smplx", "smplx/SMPLX_NEUTRAL.npz"),
        ("smplx_female", "models/smplx/SMPLX_FEMALE.pkl"),
    ],
)
def test_files_are_found_where_the_archives_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, relative: str
) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    monkeypatch.setenv(VARIABLE, f"{other}{os.pathsep}{own}")
    assert [find_body_file(v) for v in VARIANTS.values()] == [None] * 9
    (own / relative).parent.mkdir(parents=True)
    (own / relative).write_bytes(b"x")
    found = {n: find_body_file(v) for n, v in VARIANTS.items()}
    assert found.pop(name) == own / relative
    assert set(found.values()) == {None}


def test_own_folders_come_first_then_here_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/a")
    here = tmp_path.resolve()
    assert search_folders() == [Path("/a"), here / "body_models", here / "models", tmp_path / "cache" / "body_models"]
    places = [tmp_path / "cache" / "body_models" / "smplx", tmp_path / "body_models" / "smplx"]
    for place in places:
        place.mkdir(parents=True)
        (place / "SMPLX_MALE.npz").write_bytes(b"x")
        assert find_body_file(VARIANTS["smplx_male"]) == place / "SMPLX_MALE.npz"


def test_vertex_maps_are_found(tmp_path: Path) -> None:
    assert find_vertex_map("smplx", "smpl") is None
    path = tmp_path / "body_models" / "transfer" / "smplx2smpl_deftrafo_setup.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert find_vertex_map("smplx", "smpl") == path


def test_doctor_tells_what_is_here_and_where_to_register(tmp_path: Path) -> None:
    path = tmp_path / "models" / "smpl" / "SMPL_MALE.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(licensed_bodies())
    text = console.export_text()
    assert str(path) in text
    for site in ("smpl.is.tue.mpg.de", "mano.is.tue.mpg.de", "smpl-x.is.tue.mpg.de"):
        assert site in text
    for name in VARIANTS:
        assert name in text


def test_every_layout_names_its_joints_and_vertices() -> None:
    for kind, layout in LAYOUTS.items():
        assert body_arrays(kind)["v_template"].shape == (layout.vertices, 3)
        assert body_arrays(kind)["weights"].shape == (layout.vertices, layout.joints)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # scipy.sparse.csc is how old files name it
def test_the_writer_is_honest(official: Path) -> None:
    """An ordinary unpickler with chumpy's classes at hand reads the test's own file to the same numbers."""
    with chumpy():
        content = pickle.loads(official.read_bytes(), encoding="latin1")
    assert type(content["posedirs"]) is Ch
    np.testing.assert_array_equal(content["posedirs"].x, body_arrays("smpl", "male")["posedirs"])
