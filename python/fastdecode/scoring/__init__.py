"""Probabilities that a model gives: of next tokens, of texts, and of all continuations."""
