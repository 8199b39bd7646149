"""Every registered reader reads an instance of its data set in the official layout; the rates of reading are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.dataset_rates import rates
from datamodules.readers import READERS, make_reader
from datamodules.readers.indexed import IndexedReader
from tests.datasets.instances import INSTANCES
from tests.datasets.people import make_people

pytestmark = pytest.mark.usefixtures("body_files")


def test_every_registered_reader_has_an_instance() -> None:
    assert sorted(INSTANCES) == sorted(READERS)


@pytest.mark.parametrize("name", sorted(INSTANCES))
def test_instances_are_read(name: str, tmp_path: Path) -> None:
    instance = INSTANCES[name]
    reader = make_reader(name, instance.write(tmp_path / "root", make_people, 2, tmp_path / "cache"))
    assert len(reader.index) >= 2
    assert reader.read_image(0).ndim == 3
    if isinstance(reader, IndexedReader) and name != "unlabelled":  # which labels the pictures themselves
        parsed = {path for path in reader.label_files() if path.suffix not in (".png", ".jpg")}
        assert parsed
        assert parsed <= set(instance.label_files(reader.root)), "the table does not name all label files"


def test_rates_have_every_figure() -> None:
    """What ``python -m benchmarks.metrics`` prints, of small instances: of plain files, of videos, of bodies."""
    found = rates(["lsp", "pose2sim", "emdb"], most_frames=4)
    assert list(found) == ["lsp", "pose2sim", "emdb"]
    for name, facts in found.items():
        assert facts["persons"] >= 4
        assert facts["index_persons_s"] > 0
        assert facts["decode_s"] > 0
        if name != "pose2sim":  # which keeps crops
            assert facts["size"] == "x".join(map(str, INSTANCES[name].size))
