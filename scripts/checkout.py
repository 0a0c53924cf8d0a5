"""Imported first by every script: the package of this checkout, whether or not one is installed besides."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
