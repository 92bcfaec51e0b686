"""The longest common subsequence of two strings, as LCS finds it."""

Match = tuple[int, int, int, int]
"""The first and last index in the one string, then in the other one."""


class Common:
    """The longest common subsequence of two strings."""

    def __init__(self, a: bytes, b: bytes) -> None:
        self._a, self._b = a, b
        row = [0] * (len(b) + 1)
        self._lengths = [row]
        for byte in a:
            above, row = row, [0]
            for at, other in enumerate(b):
                longest = row[at] if row[at] > above[at + 1] else above[at + 1]
                row.append(above[at] + 1 if byte == other else longest)
            self._lengths.append(row)
        self.length = row[-1]

    def trace(self) -> tuple[bytes, list[Match]]:
        """Return the subsequence, and where it is in both strings, from their ends on.

        A match that follows another one in one string alone is in no range, as in Redis.
        """
        a, b, lengths = self._a, self._b, self._lengths
        found, matches = bytearray(), []
        current: Match | None = None
        i, j = len(a), len(b)
        while i and j:
            ends = False
            if a[i - 1] == b[j - 1]:
                found.append(a[i - 1])
                if current is None:
                    current = i - 1, i - 1, j - 1, j - 1
                elif (current[0], current[2]) == (i, j):
                    current = i - 1, current[1], j - 1, current[3]
                else:
                    ends = True
                ends = ends or not (current[0] and current[2])
                i, j = i - 1, j - 1
            else:
                if lengths[i - 1][j] > lengths[i][j - 1]:
                    i -= 1
                else:
                    j -= 1
                ends = current is not None
            if ends and current is not None:
                matches.append(current)
                current = None
        return bytes(found[::-1]), matches
