"""Fixtures shared by all tests."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy.io import savemat

from human.body_folders import VARIABLE

# Two test processes side by side get a core each (`make test`).
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
# No time limit for an example (test machines are shared), the same examples every time, no folder of old ones.
settings.register_profile("posesyn", deadline=None, derandomize=True, database=None)
settings.load_profile("posesyn")


_PORTS = itertools.count(os.getpid() * 97)


@pytest.fixture(autouse=True)
def _main_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of its own for ranks that a test starts, below those that the system gives to whoever asks for a free one:
    such a port may be taken again before the ranks listen on it."""
    monkeypatch.setenv("MASTER_PORT", str(20000 + next(_PORTS) % 12000))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}")
    return path


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the module's own: crops are cached by what is labelled, and would stay in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def no_licensed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only one in which licensed files are looked for."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lspet_root(tmp_path: Path) -> Path:
    """An LSPET folder of 7 persons in small pictures of noise: 6 usable, the fifth with too few joints."""
    root, rng = tmp_path / "lspet", np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    joints = np.ones((14, 3, 7))
    for person in range(7):
        low = rng.uniform(5, 40, 2)
        joints[:, :2, person] = rng.uniform(low, low + rng.uniform(25, 45, 2), (14, 2))
        picture = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "images" / f"im{person + 1:05d}.jpg"), picture)
    joints[:5, :, 4] = [-9, -9, 0]  # not labelled: junk coordinates
    savemat(root / "joints.mat", {"joints": joints})
    return root


@pytest.fixture
def command_process() -> Iterator[None]:
    """For tests of commands, which quiet loggers and warnings of their process: here that is the tests'."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels, precision = [logger.level for logger in loggers], torch.get_float32_matmul_precision()
    with warnings.catch_warnings():
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="module")
def lspet_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LSPET folder for training (``train``) and one for validation (``val``)."""
    from tests.tiny import write_data  # the whole of posesyn

    return write_data(tmp_path_factory.mktemp("lspet"))


@pytest.fixture(scope="session")
def body_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SMPL and SMPL-X files of every gender with made-up numbers, and the regressor of Human3.6M's joints."""
    from tests.datasets.people import write_bodies

    return write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def body_files(body_folder: Path) -> Iterator[Path]:
    """The same, found by everything that looks for bodies."""
    from human.body_folders import VARIABLE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(body_folder))
        yield body_folder
