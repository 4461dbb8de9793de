# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Runs in the environment of `make test-vllm`, which has vLLM and this package installed: a job in, what came out.

    python vllm_run.py generate|embed|classify FOLDER '[[5, 9], [7]]'

prints, in a line of its own, a list with the tokens, the vector or the probabilities of each prompt of ids.
"""

import json
import sys

from vllm import LLM, SamplingParams


def main(job: str, folder: str, prompts: str) -> None:
    """Load the folder without a flag of any kind for remote code, and do the job."""
    ids = [{"prompt_token_ids": prompt} for prompt in json.loads(prompts)]
    options = dict(dtype="float32", max_model_len=32, max_num_batched_tokens=32)
    options["skip_tokenizer_init"] = job == "generate"  # its poolers ask for a tokenizer, of ids too
    options["gpu_memory_utilization"] = 0.2  # on a CPU too: the share of all memory that is taken at the start
    if job == "generate":
        greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False)
        found = [out.outputs[0].token_ids for out in LLM(folder, **options).generate(ids, greedy)]
    else:
        model = LLM(folder, runner="pooling", **options)
        outs = model.embed(ids) if job == "embed" else model.classify(ids)
        found = [out.outputs.embedding if job == "embed" else out.outputs.probs for out in outs]
    print(json.dumps([list(map(float, one)) for one in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
