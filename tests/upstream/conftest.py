# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The marks that the tests of transformers carry; its own conftest.py is not in its source distribution."""

MARKS = (
    "accelerate_tests flash_attn_3_test flash_attn_4_test flash_attn_test is_fsdp_test is_tensor_parallel_test "
    "is_training_test torch_compile_test"
).split()


def pytest_configure(config):
    """Make those marks known."""
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: of transformers")
