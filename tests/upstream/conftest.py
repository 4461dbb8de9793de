# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The marks that the tests of transformers carry, and a short report of them: there are thousands.

The conftest.py of transformers is not in its source distribution.
"""

import pytest

MARKS = (
    "accelerate_tests flash_attn_3_test flash_attn_4_test flash_attn_test is_fsdp_test is_tensor_parallel_test "
    "is_training_test torch_compile_test"
).split()


def pytest_configure(config):
    """Make those marks known."""
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: of transformers")


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report):
    """Count what does not concern these models without listing it, and print nothing for a part that passed."""
    if not report.nodeid.startswith("tests/upstream/"):
        return None
    if report.skipped:
        return "not for these models", "s", "NOT FOR THESE MODELS"
    if report.passed and type(report).__name__ == "SubtestReport":
        return "", "", ""
    return None
