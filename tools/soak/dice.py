"""Chance that can be repeated: one seed, one week."""

from random import Random
from typing import Self


class Dice(Random):
    """Seeded by words."""

    def __init__(self, *words: object) -> None:
        super().__init__()
        self.seed("|".join(map(str, words)))

    def __new__(cls, *_words: object) -> Self:
        """Make dice; the base would take the words for a seed."""
        return super().__new__(cls)

    def happens(self, share: float) -> bool:
        """Tell whether something happens that does in this part of all cases."""
        return self.random() < share
