# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Look for what goes wrong in any text model without an error. Not copied beside saved weights."""

from .report import CHECKS, Finding, as_json, examine
from .subject import Subject, load

__all__ = ["CHECKS", "Finding", "Subject", "as_json", "examine", "load"]
