#!/usr/bin/env bash
# A plain `pip install .` in an empty environment and an empty home gives a working `segpipe run`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet .
"$work/venv/bin/python" -m pip check

mkdir "$work/home" "$work/images"
"$work/venv/bin/python" - "$work/images" <<'PYTHON'
import sys
from PIL import Image

image = Image.new("L", (64, 64))
image.paste(200, (20, 20, 40, 40))
image.save(f"{sys.argv[1]}/square.png")
PYTHON

cd "$work/home"
run=(env -i "HOME=$work/home" "PATH=$PATH" "$work/venv/bin/segpipe")
"${run[@]}" run "$work/images" --store "$work/store" --model classical --json | tail -n 1 >"$work/summary.json"
grep -q '"ok": 1, "failed": 0' "$work/summary.json"
"${run[@]}" fsck "$work/store"
echo "plain install: works"
