"""One page about prototypes, in one file that needs no network."""

from sklgm.report._html import HTMLReport

__all__ = ["HTMLReport"]
