# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The one file that llama.cpp reads: a decoder with the options of GPT-2, and its tokenizer.

llama.cpp's own converter takes a folder of GPT-2 too, but of tokenizers only those whose ids it holds a hash of.
"""

from pathlib import Path
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel

from ..base import VanillaPreTrainedModel
from .architectures import to_transformers
from .folders import read_json

FILE = "model.gguf"
# GPT-2's linear layers hold their matrices as (in, out).
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def check(model: VanillaPreTrainedModel) -> GPT2LMHeadModel:
    """Return the model as GPT-2.

    Raises:
        ValueError: See `to_transformers`; or it does not write, or has another activation than llama.cpp's GPT-2.
    """
    name = type(model).__name__
    if name != "VanillaForCausalLM":
        raise ValueError(f"{name} has no place in llama.cpp's GPT-2; it takes VanillaForCausalLM")
    gpt2 = to_transformers(model)
    if gpt2.config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        raise ValueError(f"activation={model.config.activation!r} must be 'gelu_new', as llama.cpp's GPT-2 has it")
    return gpt2


def write_gguf(model: VanillaPreTrainedModel, folder: Path) -> None:
    """Write a decoder in fp32, with the tokenizer that lies in the folder, as model.gguf.

    Raises:
        ValueError: See `check`; the tokenizer is missing or of another kind; or the package gguf is not installed.
    """
    gpt2 = check(model)
    tokenizer = _tokenizer(folder)
    try:
        import gguf
    except ImportError as error:
        raise ValueError(f"{error}; pip install gguf") from error
    writer = gguf.GGUFWriter(folder / FILE, "gpt2")
    _add_sizes(gguf, writer, gpt2.config)
    _add_tokenizer(gguf, writer, tokenizer, gpt2.config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, gpt2.config.n_layer)
    for key, value in gpt2.state_dict().items():
        if key == "lm_head.weight" and gpt2.config.tie_word_embeddings:
            continue  # llama.cpp takes the token matrix
        matrix = value.T if key.endswith(TRANSPOSED) else value
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), matrix.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(gguf: Any, writer: Any, config: GPT2Config) -> None:
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _tokenizer(folder: Path) -> dict[str, Any]:
    """Read the tokenizer of a folder; llama.cpp has GPT-2's own way from a text to bytes, and no other."""
    path = folder / "tokenizer.json"
    parts = read_json(path) if path.is_file() else {}
    if not parts:
        raise ValueError("the model has no tokenizer.json, which llama.cpp's file holds too")
    steps, template = parts["normalizer"] or {}, (parts["post_processor"] or {}).get("single", [])
    is_bytes = parts["model"]["type"] == "BPE" and BYTE_LEVEL.items() <= (parts["pre_tokenizer"] or {}).items()
    if not is_bytes or steps.get("normalizers", steps) or len(template) > 1:
        raise ValueError(
            "the tokenizer must be of kind byte_bpe, and neither change the text nor add to it: llama.cpp's GPT-2 has no other"
        )
    return parts


def _add_tokenizer(gguf: Any, writer: Any, parts: dict[str, Any], config: GPT2Config) -> None:
    """Add vocabulary and merges; rows of the token matrix that no token has are called unused."""
    size, kinds = config.vocab_size, gguf.TokenType
    tokens = [f"[unused{number}]" for number in range(size)]
    types = [kinds.UNUSED] * size
    for token, number in parts["model"]["vocab"].items():
        tokens[number], types[number] = token, kinds.NORMAL
    for added in parts["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = kinds.CONTROL if added["special"] else kinds.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in parts["model"]["merges"]])
    for name in ("bos", "eos", "pad"):
        if (number := getattr(config, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(False)
