"""Options that several commands share, and how a help page shows them."""
