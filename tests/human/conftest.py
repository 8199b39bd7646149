"""Made-up bodies of the SMPL family, written and loaded once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from human.body import BodyModel, load_body
from human.body_folders import VARIABLE
from human.licensed import LicensedBody, load_licensed
from tests.human.fit_people import loosened_people
from tests.licensed_files import npz, official_smpl

KINDS = ("smpl", "smplh", "smplx")


@pytest.fixture(scope="session")
def licensed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files in smplx's own layout."""
    root = tmp_path_factory.mktemp("models")
    official_smpl(root / "smpl" / "SMPL_NEUTRAL.pkl")
    npz(root / "smplh" / "neutral" / "model.npz", "smplh")
    npz(root / "smplx" / "SMPLX_NEUTRAL.npz", "smplx")
    return root


@pytest.fixture(scope="session")
def licensed(licensed_folder: Path) -> dict[str, LicensedBody]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(licensed_folder))
        return {kind: load_licensed(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


@pytest.fixture(scope="module")
def people() -> dict[str, Tensor]:
    """Parameters of 48 varied bodies, to be fitted."""
    return loosened_people()


@pytest.fixture(scope="module")
def joints(body: BodyModel, people: dict[str, Tensor]) -> Tensor:
    return body.joints(**people)
