"""Where a user's licensed body files lie: folders, the names files go by, and what to say when there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from human.assets import cache_root, get_asset
from human.errors import PosesynError
from human.smpl_files import LAYOUTS

VARIABLE = "POSESYN_BODY_MODELS"
GENDERS = ("neutral", "male", "female")

# Folders below a search folder; smplx's own layout first, then what the official archives unpack to.
_FOLDERS = {
    "smpl": ("smpl", "", "models/smpl", "smpl/models", "SMPL_python_v.1.1.0/smpl/models",
             "SMPL_python_v.1.0.0/smpl/models", "smplify_public/code/models"),
    "smplh": ("smplh", "", "models/smplh", "smplh16", "mano_v1_2/models"),
    "smplx": ("smplx", "", "models/smplx"),
}  # fmt: skip
_FILES = {
    "smpl": ("SMPL_{gender}.pkl", "SMPL_{gender}.npz", "basicModel_{short}_lbs_10_207_0_v1.1.0.pkl",
             "basicModel_{short}_lbs_10_207_0_v1.0.0.pkl", "{gender}/model.npz"),
    "smplh": ("SMPLH_{gender}.pkl", "SMPLH_{gender}.npz", "{gender}/model.npz"),
    "smplx": ("SMPLX_{gender}.npz", "SMPLX_{gender}.pkl", "SMPLX_{gender}_2020.npz", "{gender}/model.npz"),
}  # fmt: skip
_SHORT = {"neutral": "neutral", "male": "m", "female": "f"}


@dataclass(frozen=True)
class Variant:
    """A licensed body: kind "smpl", "smplh" or "smplx", and gender."""

    kind: str
    gender: str

    @property
    def name(self) -> str:
        """In the registry: the bare kind is neutral."""
        return self.kind if self.gender == "neutral" else f"{self.kind}_{self.gender}"


VARIANTS: dict[str, Variant] = {v.name: v for v in (Variant(k, g) for k in LAYOUTS for g in GENDERS)}


def search_folders() -> list[Path]:
    """Folders searched, in order: ``$POSESYN_BODY_MODELS`` (several apart by the system's path separator), then
    ``body_models`` and ``models`` in the working directory, then ``body_models`` in posesyn's cache."""
    own = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*own, Path("body_models").absolute(), Path("models").absolute(), cache_root() / "body_models"]


def find_body_file(variant: Variant) -> Path | None:
    """The first file of this body in the search folders; upper and lower case are one."""
    for root in search_folders():
        for folder in _FOLDERS[variant.kind]:
            for name in _names(variant):
                # male/model.npz may be any kind's: only below a folder of the kind's own name
                if "/" in name and not (folder or root.name.lower().startswith(variant.kind)):
                    continue
                if found := _find(root / folder, name):
                    return found
    return None


def require_body_file(variant: Variant) -> Path:
    """:func:`find_body_file`, or one error that says which file, where it was looked for and where one registers."""
    if (path := find_body_file(variant)) is not None:
        return path
    raise PosesynError(missing(variant))


def missing(variant: Variant) -> str:
    """What to tell a user who lacks this body."""
    official, *others = _names(variant)
    present = [g for g in GENDERS if find_body_file(Variant(variant.kind, g)) is not None]
    here = f" (here: {', '.join(Variant(variant.kind, g).name for g in present)})" if present else ""
    return (
        f"body model {variant.name!r} needs the file {official} ({' or '.join(others)}){here}, which is in none of "
        f"{', '.join(map(str, search_folders()))} nor in their subfolder {variant.kind}: "
        f"{get_asset(variant.kind).message}, then put the file into {search_folders()[-1] / variant.kind} "
        f"or name its folder in {VARIABLE}"
    )


def find_vertex_map(source: str, target: str) -> Path | None:
    """smplx's model-transfer file between two kinds, e.g. transfer/smplx2smpl_deftrafo_setup.pkl, or None."""
    for root in search_folders():
        for folder in ("", "transfer", "transfer_data", "model_transfer"):
            for end in ("deftrafo_setup.pkl", "def_transfer.pkl", "deftrafo_setup.npz"):
                if found := _find(root / folder, f"{source}2{target}_{end}"):
                    return found
    return None


def _names(variant: Variant) -> list[str]:
    gender = variant.gender
    return [
        name.format(gender=gender if "/" in name else gender.upper(), short=_SHORT[gender])
        for name in _FILES[variant.kind]
    ]


def _find(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if exact.is_file():
        return exact
    if not exact.parent.is_dir():
        return None
    same = (p for p in sorted(exact.parent.iterdir()) if p.name.lower() == exact.name.lower() and p.is_file())
    return next(same, None)
