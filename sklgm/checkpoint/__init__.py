"""What was computed is not computed again: the cache of results, and the state of a fit."""
