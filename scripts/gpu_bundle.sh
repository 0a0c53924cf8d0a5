#!/usr/bin/env bash
# Packs wheels for a GPU machine without network that has Python 3.12, torch 2.11, torchvision and triton.
#   bash scripts/gpu_bundle.sh     fills gpu_bundle/ beside this checkout's README.md
# On the GPU machine, in a copy of the checkout and of that folder:
#   python -m pip install --no-index --no-deps gpu_bundle/*.whl && python scripts/gpu_day.py
set -euo pipefail
folder=gpu_bundle
cd "$(dirname "${BASH_SOURCE[0]}")/.."
most=$((64 * 1024 * 1024)) # bytes
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
# the packages that scripts/gpu_day.py, train.py and the GPU tests import; pip adds what these need
packages=(
    hydra-core omegaconf pydantic pyyaml tqdm rich safetensors simplejpeg numpy pillow matplotlib pytest pytest-xdist
)
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
for package in "${packages[@]}"; do grep "^$package==" requirements.txt; done >"$wanted"
mkdir -p "$folder" && rm -f "$folder"/*.whl
# one requirement of hydra-core has no wheel: it is pure Python, and its wheel is built here
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "antlr4-python3-runtime==4.9.*"
"$python" -m pip download --quiet --dest "$folder" --find-links "$folder" --only-binary=:all: --implementation cp \
    --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --requirement "$wanted"
size=$(du -cb "$folder"/*.whl | tail -n 1 | cut -f 1)
echo "$folder: $(ls "$folder" | wc -l) wheels, $((size / 1024 / 1024)) MiB"
[ "$size" -lt "$most" ] || { echo "error: more than $((most / 1024 / 1024)) MiB do not travel" >&2; exit 1; }
