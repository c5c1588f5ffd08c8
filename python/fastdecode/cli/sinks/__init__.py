"""Sinks: where the results of a command go, besides the tables that results have themselves."""
