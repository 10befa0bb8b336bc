"""Lets ``pytest benches/`` import what the scripts beside it share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
