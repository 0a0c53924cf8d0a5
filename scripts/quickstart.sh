#!/usr/bin/env bash
# Trains models A and C on scikit-learn's digits and compares them: bash scripts/quickstart.sh
# Makes .venv if it is missing. Downloads only packages, and needs no account. After the download it takes under
# five minutes on 2 CPU cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

output=outputs/quickstart
for model in a c; do
    "$python" train.py experiment=quickstart model=$model run_dir=$output/$model
    echo
done
for model in a c; do
    echo "evaluating $output/$model"
    "$python" eval.py run=$output/$model
done
echo
"$python" scripts/table.py $output/a $output/c --output $output/table
echo "run folders: $output/a, $output/c"
