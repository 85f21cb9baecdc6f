"""Prototypes as they are kept and handed on: a set, its folder and card, similarities to it."""
