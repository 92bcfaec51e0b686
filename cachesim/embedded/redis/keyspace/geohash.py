"""Positions on Earth: Redis's geohashes of 52 bits, distances, and the members of an area.

A geohash has the latitude in its even bits and the longitude in its odd ones. The calculations are
Redis's own, step by step, so that digits and the order of members are the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Position = tuple[float, float]
"""Longitude and latitude, in degrees."""

LONGITUDE: Final = (-180.0, 180.0)
LATITUDE: Final = (-85.05112878, 85.05112878)
STEPS: Final = 26  # bits of each coordinate in a score
_RADIUS = 6372797.560856  # metres, of Earth
_HALF_ROUND = 20037726.37  # metres
_DEGREE = math.pi / 180


def encode(
    position: Position,
    steps: int = STEPS,
    latitudes: tuple[float, float] = LATITUDE,
) -> int:
    """Return the geohash of a position."""
    longitude, latitude = position
    x = (longitude - LONGITUDE[0]) / (LONGITUDE[1] - LONGITUDE[0])
    y = (latitude - latitudes[0]) / (latitudes[1] - latitudes[0])
    return _interleaved(int(x * (1 << steps)), int(y * (1 << steps)))


def decode(geohash: int) -> Position:
    """Return the middle of a geohash of 52 bits."""
    west, south, east, north = _edges(*_separated(geohash), STEPS)
    return (
        max(LONGITUDE[0], min((west + east) / 2, LONGITUDE[1])),
        max(LATITUDE[0], min((south + north) / 2, LATITUDE[1])),
    )


def _interleaved(x: int, y: int) -> int:
    bits = 0
    for at in range(max(x.bit_length(), y.bit_length())):
        bits |= (y >> at & 1) << 2 * at | (x >> at & 1) << 2 * at + 1
    return bits


_EVEN = tuple(
    sum((byte >> 2 * at & 1) << at for at in range(4)) for byte in range(256)
)  # the even bits of a byte


def _separated(bits: int) -> tuple[int, int]:
    """Return the longitude and the latitude of a geohash, as numbers of cells."""
    x = y = 0
    for shift in range(0, 64, 8):
        byte = bits >> shift & 255
        x |= _EVEN[byte >> 1] << shift // 2
        y |= _EVEN[byte] << shift // 2
    return x, y


def _edges(x: int, y: int, steps: int) -> tuple[float, float, float, float]:
    """Return the west, south, east and north of a cell."""
    width, height = LONGITUDE[1] - LONGITUDE[0], LATITUDE[1] - LATITUDE[0]
    count = 1 << steps
    return (
        LONGITUDE[0] + x / count * width,
        LATITUDE[0] + y / count * height,
        LONGITUDE[0] + (x + 1) / count * width,
        LATITUDE[0] + (y + 1) / count * height,
    )


def distance(one: Position, other: Position) -> float:
    """Return the distance of two positions in metres, on a sphere."""
    longitude, latitude = one[0] * _DEGREE, one[1] * _DEGREE
    other_longitude, other_latitude = other[0] * _DEGREE, other[1] * _DEGREE
    u = math.sin((other_latitude - latitude) / 2)
    v = math.sin((other_longitude - longitude) / 2)
    a = u * u + math.cos(latitude) * math.cos(other_latitude) * v * v
    return 2.0 * _RADIUS * math.asin(math.sqrt(a)) if a <= 1 else math.nan


@dataclass
class Area:
    """A circle or a box around a position.

    Attributes:
        width: of a box, in metres; so is `height`.
        radius: of a circle, in metres; None for a box.
    """

    centre: Position
    width: float
    height: float
    radius: float | None = None

    def distance_to(self, position: Position) -> float | None:
        """Return the distance of a position from the centre in metres, or None if outside."""
        if self.radius is not None:
            metres = distance(self.centre, position)
            return None if metres > self.radius else metres
        longitude, latitude = position
        if (
            distance(position, (self.centre[0], latitude)) > self.width / 2
            or distance(position, (longitude, self.centre[1])) > self.height / 2
        ):
            return None
        return distance(self.centre, position)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Return the scores that members may have: the lowest, and the one after the highest."""
        steps, cells = self._cells()
        last: tuple[int, int] | None = None
        for cell in cells:
            if cell is None or cell == last:
                continue
            last = cell
            bits = _interleaved(*cell)
            if bits == 0 and steps == 0:
                continue
            shift = 2 * (STEPS - steps)
            yield bits << shift, bits + 1 << shift

    def _bounds(self) -> tuple[float, float, float, float]:
        """Return the west, south, east and north in degrees, which may be beyond the map."""
        longitude, latitude = self.centre
        height = (self.height / 2) / _RADIUS / _DEGREE
        nearer_pole = latitude - height if latitude < 0 else latitude + height
        if math.isinf(height):
            return (math.nan, -height, math.nan, height)
        width = (self.width / 2) / _RADIUS / math.cos(nearer_pole * _DEGREE) / _DEGREE
        return longitude - width, latitude - height, longitude + width, latitude + height

    def _steps(self) -> int:
        """Return how many bits of each coordinate the cells have."""
        metres = self.radius
        if metres is None:
            metres = math.sqrt((self.width / 2) ** 2 + (self.height / 2) ** 2)
        if metres == 0:
            return STEPS
        steps = 1
        while metres < _HALF_ROUND:
            metres *= 2
            steps += 1
        latitude = abs(self.centre[1])
        steps -= 2 + (latitude > 66) + (latitude > 80)
        return max(1, min(steps, STEPS))

    def _cells(self) -> tuple[int, list[tuple[int, int] | None]]:
        """Return the steps, and the cell of the centre and its neighbours in Redis's order."""
        west, south, east, north = self._bounds()
        steps = self._steps()
        x, y = _separated(encode(self.centre, steps))
        mask = (1 << steps) - 1
        above = _edges(x, y + 1 & mask, steps)
        below = _edges(x, y - 1 & mask, steps)
        right = _edges(x + 1 & mask, y, steps)
        left = _edges(x - 1 & mask, y, steps)
        if steps > 1 and (
            above[3] < north or below[1] > south or right[2] < east or left[0] > west
        ):
            steps -= 1
            x, y = _separated(encode(self.centre, steps))
            mask = (1 << steps) - 1
        own = _edges(x, y, steps)
        skipped: set[tuple[int, int]] = set()
        if steps >= 2:
            sides = (
                (0, -1, own[1] < south), (0, 1, own[3] > north),
                (-1, 0, own[0] < west), (1, 0, own[2] > east),
            )  # fmt: skip
            skipped = {(dx, dy) for dx, dy, is_enough in sides if is_enough}
        cells: list[tuple[int, int] | None] = []
        for dx, dy in (
            (0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)
        ):  # fmt: skip
            if ({(dx, 0), (0, dy)} - {(0, 0)}) & skipped:
                cells.append(None)
            else:
                cells.append((x + dx & mask if dx else x, y + dy & mask if dy else y))
        return steps, cells
