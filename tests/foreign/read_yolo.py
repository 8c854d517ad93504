"""Runs where supervision is installed: what it makes of a YOLO data set.

Prints JSON: the names of the classes, and of each image by its file name its size, and of each
object its class, its box (x0, y0, x1, y1 in pixels), and the rows and columns of its mask's pixels.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it can do without OpenCV
    import supervision


def main(folder: Path) -> None:
    data = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    images = {}
    for path, image, found in data:
        masks = [] if found.mask is None else found.mask
        images[Path(path).name] = {
            "size": list(image.shape[:2]),
            "objects": [
                {
                    "class": int(number),
                    "box": np.asarray(box).tolist(),
                    "pixels": [axis.tolist() for axis in np.nonzero(np.asarray(mask))],
                }
                for number, box, mask in zip(found.class_id, found.xyxy, masks, strict=True)
            ],
        }
    print(json.dumps({"classes": data.classes, "images": images}))


main(Path(sys.argv[1]))
