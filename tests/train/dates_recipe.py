"""The recipe of the tests that train on dates: a translator that a CPU trains in seconds."""

import yaml

SECTIONS = {
    "task": "translation",
    "model": {
        "attn_implementation": "eager",
        "d_model": 32,
        "d_ff": 48,
        "num_heads": 4,
        "num_layers": 1,
        "dropout": 0.1,
        "max_position_embeddings": 64,
    },
    "tokenizer": {"kind": "char", "vocab_size": 200},
    "data": {"generator": "dates", "generator_args": {"train": 300, "validation": 20, "test": 20}},
    "batch": {"max_tokens": 512},
    "optim": {"lr": 2.0e-3, "schedule": "cosine", "warmup_steps": 3, "clip_norm": 1.0},
    "loop": {"save_every": 2, "log_every": 1, "keep_last": 2, "tracker": "none"},
    "eval": {"metrics": ["loss"], "beams": 1},
}


def dates_recipe(name: str, **sections: dict) -> str:
    """Return the recipe as YAML, with values of sections on top."""
    merged = {
        key: value | sections.get(key, {}) if isinstance(value, dict) else value for key, value in SECTIONS.items()
    }
    return yaml.safe_dump({"name": name} | merged)
