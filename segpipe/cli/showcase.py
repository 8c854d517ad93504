"""`segpipe demo`: the main job on a small archive, from nothing to answers and pictures."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

import segpipe
from segpipe.cli.console import progress_display, summary_text
from segpipe.demo import make_archive
from segpipe.query import format_table, query
from segpipe.report.evaluate import evaluate_store, format_evaluation
from segpipe.report.picture import draw_image
from segpipe.spec import RunSpec
from segpipe.store import Snapshot

MODELS = ("classical", "unet-nuclei")
"""The baseline first, so that the newest results are the learned model's."""

PICTURES = {
    "coins.png": ("classical", "photographs/coins.png"),
    "field.png": ("unet-nuclei", "fields/field_02.png"),
    "dense-field.png": ("unet-nuclei", "fields/field_03.tif"),
}

QUERIES = {
    "Which images have the most objects?": """
        SELECT model, path, n_objects FROM images WHERE status = 'ok'
        ORDER BY n_objects DESC, model LIMIT 5""",
    "How do the two models see the nuclei of the fields?": """
        SELECT model, count(*) AS objects, round(avg(area), 1) AS mean_area,
               round(avg(solidity), 3) AS mean_solidity
        FROM objects JOIN images USING (run_id, spec_id, chunk_id, image_id)
        WHERE path LIKE 'fields/%' GROUP BY model ORDER BY model""",
}


def showcase(out: Path) -> None:
    """Make the archive, run both models over it, and print and draw what came of it.

    A second call does only what is missing.
    """
    archive, store = make_archive(out), out / "store"
    console = Console(stderr=True)
    for model in MODELS:
        print(f"\n== segpipe run {archive.source} --store {store} --model {model}", flush=True)
        spec = RunSpec(source=str(archive.source), store=str(store), model=model, chunk_images=8)
        with progress_display(console) as observe:
            print(summary_text(segpipe.run(spec, observe)), flush=True)
    snapshot = segpipe.open_store(store)
    _ask(snapshot)
    for model in MODELS:
        print(f"\n== segpipe eval {store} --truth {archive.truth} --model {model}")
        print(format_evaluation(evaluate_store(snapshot.of_model(model), archive.truth)))
    print("\n== segpipe overlay")
    for path in _draw(snapshot, out / "pictures"):
        print(path)


def _ask(snapshot: Snapshot) -> None:
    for question, sql in QUERIES.items():
        print(f"\n== segpipe query: {question}")
        format_table(query(snapshot, sql), "table", sys.stdout)


def _draw(snapshot: Snapshot, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for name, (model, image) in PICTURES.items():
        draw_image(snapshot.of_model(model), image).picture.save(folder / name)
        paths.append(folder / name)
    return paths
