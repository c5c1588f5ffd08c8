"""Results: what the public functions return."""
