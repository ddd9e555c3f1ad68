"""Colours that also colour-blind eyes tell apart (Okabe and Ito). No panel says a thing by colour alone."""

from typing import Final

GOOD: Final = "#0072B2"
WARN: Final = "#E69F00"
BAD: Final = "#D55E00"
GREY: Final = "#6E6E6E"
"""Nothing to judge."""
OTHERS: Final = ("#56B4E9", "#CC79A7", "#009E73", "#F0E442")
