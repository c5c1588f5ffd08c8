"""Packed files: a model as the native engine reads it, with everything that is needed to run it."""
