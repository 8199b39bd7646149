"""The real classes of transformers at tiny random size, saved to a folder as a hub's checkpoint is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SPECIAL = ["<pad>", "<s>", "</s>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<image>"]
SAID = "a person is standing walking forward with the left right arm raised above head and knee bent ."
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def tokenizer(answers: Sequence[str] = ()) -> Any:
    """Words of :data:`SAID` and whole answers, anything else unknown."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, "<unk>", *dict.fromkeys(SAID.split()), "user", "assistant", *answers]
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
    )


def save_qwen2_vl(folder: Path) -> Path:
    """A Qwen2-VL of two layers."""
    import transformers as t

    torch.manual_seed(0)
    words = tokenizer()
    number = {s: i for i, s in enumerate(SPECIAL)}
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
    }  # fmt: skip
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    config = t.Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
    )
    t.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    t.Qwen2VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(**sizes),
        tokenizer=words,
        video_processor=t.Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|> <|image_pad|> <|vision_end|> "),
    ).save_pretrained(folder)
    return folder


def save_llava(folder: Path, answers: Sequence[str] = ()) -> Path:
    """A LLaVA of CLIP and Llama, two layers each: the paper's kind of model. ``answers``: what :func:`say` may set."""
    import transformers as t

    torch.manual_seed(0)
    words = tokenizer(answers)
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28,
            patch_size=14,
        ),
        text_config=t.LlamaConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ),
        image_token_index=SPECIAL.index("<image>"),
    )  # fmt: skip
    t.LlavaForConditionalGeneration(config).save_pretrained(folder)
    t.LlavaProcessor(
        image_processor=t.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=TEMPLATE.replace("IMAGE", "<image> "),
    ).save_pretrained(folder)
    return folder


@torch.no_grad()
def say(llava: Any, words: Any, answer: str) -> None:
    """Set a LLaVA's weights so that it says ``answer``, one of those it was saved with or "", whatever it is shown.

    Each next word follows from the word before alone: "assistant", then the answer, then the end.
    """
    for layer in llava.model.language_model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding, head = llava.get_input_embeddings().weight, llava.lm_head.weight
    head.zero_()
    spoken = [words.convert_tokens_to_ids("assistant"), *([words.convert_tokens_to_ids(answer)] if answer else [])]
    for axis, (word, following) in enumerate(zip(spoken, [*spoken[1:], words.eos_token_id], strict=True)):
        embedding[word] = torch.eye(embedding.shape[1])[axis]
        head[following, axis] = 1
