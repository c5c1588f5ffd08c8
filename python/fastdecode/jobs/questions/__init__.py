"""Questions: what a job may ask of each of its inputs, one file for each kind."""
