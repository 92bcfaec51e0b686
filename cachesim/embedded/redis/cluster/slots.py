"""Hash slots: the slot of a key, and sets of slots as bit masks."""

import binascii

SLOTS = 16384
ALL_SLOTS = (1 << SLOTS) - 1
"""The bit mask of all slots."""


def slot_of(key: bytes) -> int:
    """Return the slot of a key. Of a key with `{...}`, only the part in the first braces counts."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) & (SLOTS - 1)


def slot_ranges(slots: int) -> list[tuple[int, int]]:
    """Return the slots of a bit mask as ranges that include both ends."""
    if slots == ALL_SLOTS:
        return [(0, SLOTS - 1)]
    found: list[tuple[int, int]] = []
    at = 0
    while slots:
        zeros = (slots & -slots).bit_length() - 1
        slots >>= zeros
        at += zeros
        ones = ((~slots) & -(~slots)).bit_length() - 1
        found.append((at, at + ones - 1))
        slots >>= ones
        at += ones
    return found
