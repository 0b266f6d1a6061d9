#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of a VM that writes, a few times; tests/guest/kill.py does it a hundred times."""
from guest import run_all
from kill import kills

if __name__ == "__main__":
    raise SystemExit(run_all([
        ("kill -9 under load, raw", kills("raw", 1)),
        ("kill -9 under load, qcow2, twice on one image", kills("qcow2", 2)),
    ], 2))
