"""Makes the tables of README.md anew from results/*.csv: python scripts/readme.py"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from efficientconv.results.readme import updated  # noqa: E402

if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))
