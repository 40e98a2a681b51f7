"""Garbage: what lives long is looked through at a moment of our choosing, not in the middle of a pass.

Plans, outlooks and models of many homes are some hundred thousand objects that stay until the next cycle. Python's collector
would walk them all several times a minute, and everything waits while it does.
"""

import gc

YOUNG = 20_000
"""Objects made and not yet freed before the collector looks for circles among them."""


def settle() -> None:
    """Look through everything once; what is left counts as long-lived, and is left alone until the next call."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
