"""Jobs: long or repeated work over a decoder, such as resumable runs, replays and self-checks."""
