"""Makes what docs/models.md shows: `python docs/models.py DATA OUT fp32 [MODEL ...]`.

DATA holds `nuclei/` and `oct_dme/` (`images/`, `labels/`, `index.csv`). The validation images,
which were not trained on, are segmented by each shipped model, in fp32 or bf16, into a store under
OUT, and measured there; OUT then holds a table (.md) and a picture (.png) for each.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SEGPIPE = [sys.executable, "-m", "segpipe"]
AP = {"mean AP 0.5": "mean_ap50", "mean AP 0.75": "mean_ap75", "pooled AP 0.5": "ap50",
      "pooled AP 0.75": "ap75", "PQ": "pq"}  # fmt: skip
PIXELS = {name: name for name in ("dice", "iou", "precision", "recall")}
MODELS = {
    "unet-nuclei": ("nuclei", "image_id", ["--by", "kind"], AP),
    "mask-rcnn-nuclei": ("nuclei", "image_id", ["--by", "kind"], AP),
    "classical": ("nuclei", "image_id", ["--by", "kind"], AP),
    "unet-oct-fluid": ("oct_dme", "file", ["--by", "subject", "--binary-truth"], PIXELS),
}
"""Model -> folder of its data, column of the index with the file's name, options, numbers."""


def main(data: Path, out: Path, precision: str, only: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for model in only or MODELS:
        folder, column, options, numbers = MODELS[model]
        source = data / folder
        images = out / folder
        link_validation_images(source, column, images)
        store = out / model
        exact = "fp32" if model == "classical" else precision
        call("run", images, "--store", store, "--model", model, "--precision", exact)
        truth = ["--truth", source / "labels", "--index", source / "index.csv", *options]
        found = json.loads(call("eval", store, *truth, "--picture", out / f"{model}.png", "--json"))
        table = markdown([*found["groups"], found["all"]], numbers)
        (out / f"{model}.md").write_text(table)
        sys.stdout.write(f"{model}\n{table}\n")


def link_validation_images(folder: Path, column: str, images: Path) -> None:
    """A folder of links, so that paths in the store are file names."""
    images.mkdir(exist_ok=True)
    with (folder / "index.csv").open(newline="") as file:
        names = [row[column] for row in csv.DictReader(file) if row["split"] == "val"]
    for name in names:
        png = f"{name.removesuffix('.png')}.png"
        if not (images / png).exists():
            (images / png).symlink_to((folder / "images" / png).resolve())


def call(*arguments: str | Path) -> str:
    command = [*SEGPIPE, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def markdown(groups: list[dict[str, Any]], numbers: dict[str, str]) -> str:
    """A row for each subgroup, and for all."""
    lines = [f"| images | {' | '.join(numbers)} |", "|---" * (len(numbers) + 1) + "|"]
    for group in groups:
        # The last class is the one that matters where there are classes: 0 is the background.
        scores = group["classes"][-1]["scores"] if numbers is PIXELS else group["scores"]
        cells = [cell(scores[key]) for key in numbers.values()]
        lines.append(f"| {group['name']} ({group['images']}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(score: dict[str, float | None]) -> str:
    value, low, high = (score[key] for key in ("value", "low", "high"))
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
