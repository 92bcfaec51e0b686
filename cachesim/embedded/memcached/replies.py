"""Memcached's constant replies."""

from typing import Final

OK: Final = b"OK\r\n"
END: Final = b"END\r\n"
ERROR: Final = b"ERROR\r\n"
NOT_FOUND: Final = b"NOT_FOUND\r\n"
BAD_FORMAT: Final = b"CLIENT_ERROR bad command line format\r\n"
BAD_CHUNK: Final = b"CLIENT_ERROR bad data chunk\r\n"
BAD_EXPIRY: Final = b"CLIENT_ERROR invalid exptime argument\r\n"
NON_NUMERIC: Final = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_LARGE: Final = b"SERVER_ERROR object too large for cache\r\n"
NO_MEMORY: Final = b"SERVER_ERROR out of memory storing object\r\n"
