"""Every registered captioner: one sentence for each request, whatever is wrong with it."""

from __future__ import annotations

import pytest
import torch

from human.errors import PosesynError
from synth.captions import CAPTIONERS, CaptionRequest, load_captioner
from tests.synth.captions.test_vlm import STANDS, prediction


# (Other tests register captioners of their own.)
@pytest.mark.parametrize("name", [n for n in CAPTIONERS if CAPTIONERS.get(n).__module__.startswith("synth.")])
def test_without_pictures_every_captioner_tells_the_pose(name: str) -> None:
    captioner = load_captioner(name)
    assert captioner.name == name
    persons = prediction(3)
    persons.joints3d[1] = torch.nan
    assert captioner.caption(CaptionRequest(persons)) == [STANDS, "a person", STANDS]
    assert captioner.replaced >= 1
    assert captioner.config_hash() == load_captioner(name).config_hash()
    assert captioner.caption(CaptionRequest(prediction(0))) == []


def test_the_describer_uses_activities_and_seeds() -> None:
    request = CaptionRequest(prediction(20), activities=["golf"] + [""] * 19, seeds=list(range(20)))
    plain = load_captioner("describer").caption(request)
    assert plain[0] == "a person is playing golf; the person is standing with both arms at the sides"
    assert set(plain[1:]) == {STANDS}
    varied = load_captioner("describer", vary=True)
    assert len(set(varied.caption(request)[1:])) > 3
    assert varied.config_hash() != load_captioner("describer").config_hash()


def test_unknown_captioner_lists_the_known_ones() -> None:
    with pytest.raises(PosesynError, match=r"known: describer, .*vlm"):
        load_captioner("blip")
