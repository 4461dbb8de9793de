# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Split over two processes by its own plan, each model computes what one process computes."""

import inspect
import json

from transformers.distributed import mixin

WORKER = """
import json, pathlib, sys
import torch
import torch.distributed as dist
from transformers.distributed import DistributedConfig
import modeling_vanilla as mv

dist.init_process_group("gloo")
root = pathlib.Path(sys.argv[1])
heads = {
    "encoder-decoder": mv.VanillaForConditionalGeneration,
    "encoder": mv.VanillaForMaskedLM,
    "decoder": mv.VanillaForCausalLM,
}
found = {"world": dist.get_world_size()}
for variant, head in heads.items():
    for tied in (True, False):
        torch.manual_seed(0)
        folder = root / f"{variant}-{tied}"
        if dist.get_rank() == 0:
            config = mv.VanillaConfig.tiny(variant=variant, vocab_size=98, tie_word_embeddings=tied)
            head(config).save_pretrained(folder)
        dist.barrier()
        inputs = {"input_ids": torch.arange(12).view(2, 6) + 8}
        if variant == "encoder-decoder":
            inputs["decoder_input_ids"] = inputs["input_ids"][:, :4]
        with torch.no_grad():
            whole = head.from_pretrained(folder)(**inputs).logits
            model = head.from_pretrained(folder, distributed_config=DistributedConfig(tp_size=2))
            error = (model(**inputs).logits - whole).abs().max().item()
        sizes = {n: p.to_local().numel() / p.numel() for n, p in model.named_parameters() if hasattr(p, "to_local")}
        found[folder.name] = {"error": error, "split": [n for n, share in sizes.items() if share == 0.5]}
if dist.get_rank() == 0:
    (root / "found.json").write_text(json.dumps(found))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_equal_one(ranks, tmp_path):
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    ranks(tmp_path / "worker.py", tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.pop("world") == 2
    assert len(found) == 6
    for name, result in found.items():
        assert result["error"] < 1e-5, name
        # Every matrix of every layer, and the token matrices.
        variant, _, tied = name.rpartition("-")
        layers = [n for n in result["split"] if ".layers." in n and n.endswith("weight")]
        assert len(layers) == {"encoder": 2 * 6, "decoder": 2 * 6, "encoder-decoder": 2 * 6 + 2 * 10}[variant]
        if "embedding_rowwise" not in inspect.getsource(mixin):  # 5.17 leaves the token matrices whole
            continue
        tokens = [n for n in result["split"] if n.endswith(("embed_tokens.weight", "lm_head.weight"))]
        assert len(tokens) == (1 if tied == "True" else 3 if variant == "encoder-decoder" else 2)
