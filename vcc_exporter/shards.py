"""Which shard a customer belongs to, found from its name alone, so that shards need not speak to each other."""

import hashlib
from typing import Final

_LOTS: Final = 2**64


def shard_of(name: str, shards: int) -> int:
    """Return the shard to which a customer belongs where there are so many, from 0 up to less than `shards`.

    It is the same on every machine, at every start and in every version. Where one shard is added, each customer
    stays or goes to the new shard, about one in so many as there are then.
    """
    if shards == 1:
        return 0  # as the loop would find, a hash for each customer later
    # A jump consistent hash (Lamping and Veach, 2014). Let shards be added one by one: `following` is the first that
    # takes the customer away from `shard`. That lies beyond the first m shards with a chance of (shard + 1) / m.
    shard = following = 0
    while following < shards:
        shard = following
        # Not the hash by which polls are spread: a shard's customers would all be polled in one part of the interval.
        lot = hashlib.blake2b(f"{shard} {name}".encode(), digest_size=8).digest()
        following = (shard + 1) * _LOTS // (int.from_bytes(lot) + 1)
    return shard
