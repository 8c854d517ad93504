"""Runs where napari-ome-zarr and ome-zarr-models are installed: what they make of a folder.

Prints JSON: the models that its metadata are valid as, and of each layer that napari would show its
kind, name, shapes, type and the sum over its pixels.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import zarr
from napari_ome_zarr import napari_get_reader
from ome_zarr_models import open_ome_zarr


def main(path: str) -> None:
    group = zarr.open_group(path, mode="r")
    groups = [group]
    if "labels" in group:
        labels = group["labels"]
        groups += [labels, *(labels[name] for name in labels.group_keys())]
    models = [type(open_ome_zarr(one)).__name__ for one in groups]
    reader = napari_get_reader(path)
    assert reader is not None
    layers = []
    for data, options, kind in reader(path):
        levels = data if isinstance(data, list | tuple) else [data]
        first = np.asarray(levels[0])
        layers.append(
            {
                "kind": kind,
                "name": options["name"],
                "shapes": [list(level.shape) for level in levels],
                "dtype": str(first.dtype),
                "sum": int(first.sum(dtype=np.int64)),
            }
        )
    print(json.dumps({"models": models, "layers": layers}))


main(sys.argv[1])
