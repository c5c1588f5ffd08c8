"""Files that the package writes: read and checked, replaced atomically, and locked."""
