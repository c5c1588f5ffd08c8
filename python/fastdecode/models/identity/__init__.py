"""What a model is: its files, their fingerprints, and what a run records of them."""
