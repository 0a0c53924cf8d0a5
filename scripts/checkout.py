"""Imported first by every script: the package of this checkout, whether or not one is installed besides.

Python puts only the script's own folder on the path, and scripts/setup.sh installs the packages but not this one.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before an installed package, which may be of another version
