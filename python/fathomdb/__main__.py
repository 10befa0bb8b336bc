"""``python -m fathomdb`` is the command ``fathomdb``."""

from __future__ import annotations

import sys

from fathomdb.cli import main

if __name__ == "__main__":
    sys.exit(main())
