"""Loading diffusion models: from folders, with everything that can be wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from synth.diffusion.loading import DiffusionModel, Memory, load_component, load_pipeline
from synth.diffusion.noise import latent_noise
from tests.synth.diffusion import tiny

CPU = Memory(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "sd": tiny.save_sd(folder / "sd"),
        "depth": tiny.save_sd_depth(folder / "depth"),
        "sdxl": tiny.save_sdxl(folder / "sdxl"),
        "control": tiny.save(tiny.controlnet(tiny.unet()), folder / "control"),
        "union": tiny.save(tiny.controlnet_union(tiny.unet_sdxl()), folder / "union"),
    }


def picture(pipeline: object, seed: int = 0, **more: object) -> np.ndarray:
    given = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(seed)}
    return pipeline("a man walks", **(given | more)).images[0]  # type: ignore[operator]


@pytest.mark.parametrize(("kind", "name"), [("sd", "StableDiffusionPipeline"), ("sdxl", "StableDiffusionXLPipeline")])
def test_pipelines_of_a_folder_run(saved: dict[str, Path], kind: str, name: str) -> None:
    pipeline = load_pipeline(name, str(saved[kind]), CPU)
    image = picture(pipeline, height=64, width=64)
    assert image.shape == (64, 64, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.1
    assert not any(p.requires_grad for p in pipeline.unet.parameters())


def test_depth_pipeline_runs(saved: dict[str, Path]) -> None:
    pipeline = load_pipeline("StableDiffusionDepth2ImgPipeline", str(saved["depth"]), CPU)
    image = picture(pipeline, image=torch.rand(1, 3, 64, 64), depth_map=torch.rand(1, 64, 64), strength=1.0)
    assert image.shape == (64, 64, 3)


def test_parts_are_loaded_by_class_name(saved: dict[str, Path]) -> None:
    assert type(load_component("ControlNetModel", str(saved["control"]), CPU)).__name__ == "ControlNetModel"
    assert type(load_component("ControlNetUnionModel", str(saved["union"]), CPU)).__name__ == "ControlNetUnionModel"
    text = load_component("CLIPTextModel", str(saved["sd"]), Memory("cpu", "bf16"), subfolder="text_encoder")
    assert text.dtype == torch.bfloat16
    with pytest.raises(PosesynError, match="has a class 'Nothing'"):
        load_component("Nothing", str(saved["sd"]), CPU)


def test_memory_options_keep_the_picture(saved: dict[str, Path]) -> None:
    plain = picture(load_pipeline("StableDiffusionPipeline", str(saved["sd"]), CPU), height=64, width=64)
    options = Memory("cpu", "fp32", offload="model", slicing=True, tiling=True)
    assert np.allclose(plain, picture(load_pipeline("StableDiffusionPipeline", str(saved["sd"]), options)), atol=1e-3)


def test_missing_weights_are_one_error_that_says_what_to_get() -> None:
    with pytest.raises(PosesynError) as caught:
        load_pipeline("StableDiffusionPipeline", "nobody/nothing", CPU)
    for part in ("'nobody/nothing'", "hf download nobody/nothing", "local_files_only=false"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(PosesynError, match="hf download nobody/nothing --revision abc"):
        load_component("ControlNetModel", DiffusionModel("nobody/nothing", "abc"), CPU)


def test_damaged_and_incomplete_folders_are_named(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["control"], tmp_path / "control")
    weights = folder / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"\x00" * 100):
        weights.write_bytes(damage)
        with pytest.raises(PosesynError, match="damaged weights") as caught:
            load_component("ControlNetModel", str(folder), CPU)
        assert str(folder) in str(caught.value)
    weights.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(PosesynError, match="cannot be loaded"):
        load_component("ControlNetModel", str(folder), CPU)
    with pytest.raises(PosesynError, match="cannot be loaded"):
        load_pipeline("StableDiffusionPipeline", str(tmp_path / "empty"), CPU)


def test_files_of_another_network_and_files_that_lack_weights_are_refused(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(PosesynError, match=r"has no place for \d+ weights"):
        load_component("ControlNetModel", str(saved["union"]), CPU)
    for part, cls, file in (
        ("unet", "UNet2DConditionModel", "diffusion_pytorch_model"), ("text_encoder", "CLIPTextModel", "model"),
    ):  # fmt: skip
        folder = shutil.copytree(saved["sd"], tmp_path / part)
        weights = folder / part / f"{file}.safetensors"
        kept = load_file(weights)
        kept.pop(sorted(kept)[0])
        save_file(kept, weights, metadata={"format": "pt"})
        with pytest.raises(PosesynError, match="lacks 1 weights"):
            load_component(cls, str(folder), CPU, subfolder=part)
        if part == "unet":
            with pytest.raises(PosesynError, match="has no weight"):
                load_pipeline("StableDiffusionPipeline", str(folder), CPU)


def test_damaged_part_of_a_pipeline(saved: dict[str, Path], tmp_path: Path) -> None:
    for part, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        folder = shutil.copytree(saved["sd"], tmp_path / part)
        weights = folder / part / f"{file}.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(PosesynError, match="damaged weights"):
            load_pipeline("StableDiffusionPipeline", str(folder), CPU)


def test_settings_are_checked() -> None:
    with pytest.raises(PosesynError, match="offload is 'disk'"):
        Memory(offload="disk")
    with pytest.raises(PosesynError, match="dtype is 'int8'"):
        Memory(dtype="int8")
    with pytest.raises(PosesynError, match="no device 'toaster'"):
        _ = Memory(device="toaster").torch_device
    with pytest.raises(PosesynError, match="this machine has"):
        _ = Memory(device="cuda:99").torch_device
    with pytest.raises(PosesynError, match="not a model of the hub"):
        _ = DiffusionModel("free_body").where


def test_noise_is_a_function_of_the_seed() -> None:
    one = latent_noise(7, (4, 8, 8))
    assert torch.equal(one, latent_noise(7, (4, 8, 8)))
    assert not torch.equal(one, latent_noise(8, (4, 8, 8)))
    assert not torch.equal(one, latent_noise(7, (4, 8, 8), purpose="video"))
    assert torch.equal(one.half(), latent_noise(7, (4, 8, 8), dtype=torch.float16))
    assert abs(float(one.mean())) < 0.2
    assert abs(float(one.std()) - 1) < 0.2
