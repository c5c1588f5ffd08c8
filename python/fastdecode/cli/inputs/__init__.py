"""Inputs: texts from arguments, from a file and from standard input."""
