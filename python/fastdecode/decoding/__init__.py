"""Decoding: from a checked request to tokens, sequence by sequence and step by step."""
