#!/usr/bin/env bash
# Makes .venv if missing and runs the tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# Two processes: most tests use one thread. The tests of a file stay in one process, because they share
# trained runs. The longest files come first (tests/conftest.py).
exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
