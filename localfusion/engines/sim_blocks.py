"""The simulated KV cache: blocks of prompt tokens, shared by content, dropped when least used."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice


def hash_blocks(tokens: Sequence[str], size: int) -> tuple[int, ...]:
    """Hash each full block together with all before it; the last token is always computed."""
    hashes: list[int] = []
    parent = 0
    for start in range(0, (len(tokens) - 1) // size * size, size):
        parent = hash((parent, tuple(tokens[start : start + size])))
        hashes.append(parent)
    return tuple(hashes)


class BlockPool:
    """The KV cache in blocks: shared prompt blocks by content, the others only counted."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._users: OrderedDict[int, int] = (
            OrderedDict()
        )  # block hash -> users; the first go first
        self._private = 0
        self._held = 0

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0..1; what is only cached counts as free."""
        return (self._held + self._private) / self._capacity

    def share(self, hashes: Sequence[int]) -> int:
        """Take the leading blocks that are cached; return how many."""
        for count, block in enumerate(hashes):
            if block not in self._users:
                return count
            self._take(block)
        return len(hashes)

    def reserve(self, blocks: int) -> bool:
        """Take private blocks, dropping least recently used cached ones; False if too few."""
        missing = len(self._users) + self._private + blocks - self._capacity
        if missing > len(self._users) - self._held:
            return False
        if missing > 0:
            idle = (block for block, users in self._users.items() if not users)
            for block in tuple(islice(idle, missing)):
                del self._users[block]
        self._private += blocks
        return True

    def publish(self, hashes: Sequence[int]) -> None:
        """Turn as many private blocks into cached ones."""
        self._private -= len(hashes)
        for block in hashes:
            self._take(block)

    def release(self, hashes: Sequence[int], private: int) -> None:
        """Give blocks back; the end of a prompt is dropped before its beginning, as in vLLM."""
        self._private -= private
        for block in reversed(hashes):
            self._users[block] -= 1
            self._held -= not self._users[block]
            self._users.move_to_end(block)

    def _take(self, block: int) -> None:
        users = self._users.get(block, 0)
        self._held += not users
        self._users[block] = users + 1
