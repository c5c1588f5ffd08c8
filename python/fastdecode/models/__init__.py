"""Models: finding a checkpoint, reading its tokenizer, and the engines that run it."""
