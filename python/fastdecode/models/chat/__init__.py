"""Conversations as prompts: messages, and the Jinja template that comes with a model."""
