"""Makes the tables of README.md and results/<tier>/README.md anew from what lies in results/: python scripts/readme.py"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from efficientconv.results.readme import pages, updated  # noqa: E402

if __name__ == "__main__":
    for path in pages():
        path.write_text(updated(path.read_text()))
