"""GGUF files: the tokenizer that their metadata describes."""
