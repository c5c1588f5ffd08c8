"""A lean GPT-2 step in torch."""
