"""What may be wrong with a certificate. Data: the catalogue of faults imports no TLS for it."""

EXPIRED, WRONG_HOST = PROBLEMS = ("expired", "wrong-host")
"""What may be wrong with a certificate."""
