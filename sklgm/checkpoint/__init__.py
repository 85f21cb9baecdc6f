"""What was computed is not computed again: where a fit has got to, in a file."""
