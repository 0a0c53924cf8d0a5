#!/usr/bin/env bash
# Makes .venv if missing and runs the tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec "$python" -m pytest "$@"
