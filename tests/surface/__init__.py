"""Every public callable with valid arguments, what each argument may be, and hostile calls of all.

From the folder of the tests:

    python -m surface                  # every argument with every value
    python -m surface Decoder.score    # those whose name contains one of the words
"""

from surface.attack import findings
from surface.made import place
from surface.public import entry, public, takes_arguments, targets

__all__ = ["entry", "findings", "place", "public", "takes_arguments", "targets"]
