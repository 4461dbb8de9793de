# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""These models in servers: transformers' own, and vLLM. Not copied beside saved weights."""
