"""The files of a tokenizer, read as transformers reads them."""
