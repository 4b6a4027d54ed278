"""What every script here needs, with or without a server."""

import sys


def check(held, what):
    """One guarantee: printed when it held, the end of the script when it did not."""
    if not held:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)
