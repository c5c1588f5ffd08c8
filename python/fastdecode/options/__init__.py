"""Options: the strategies, the keywords that select them, and the checks of arguments."""
