# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Text by the line: translate, generate, fill and classify a file or a stream. Not copied beside saved weights."""
