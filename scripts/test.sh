#!/usr/bin/env bash
# Makes .venv if missing and runs the tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# Two at a time, a file's tests together: they are programs of one thread, and share what a file
# has trained. The long files come first (tests/conftest.py).
exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
