"""Any transformers causal language model as an engine, through its own forward pass."""
