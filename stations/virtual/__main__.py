"""Plug virtual cards into a running pcscd: `python -m stations.virtual --help`."""

from __future__ import annotations

import sys

from stations.virtual.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
