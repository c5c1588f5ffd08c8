"""The error for files that need transformers."""

from __future__ import annotations


class NeedsTransformers(ValueError):
    """Files that are not damaged, and of which only transformers makes a tokenizer."""
