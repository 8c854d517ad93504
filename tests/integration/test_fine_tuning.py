"""Training starts from published weights: what fits is kept, and what does not is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segpipe.errors import SpecError
from segpipe.segmenters import catalog
from segpipe.segmenters.detector_network import build_detector
from segpipe.segmenters.published import PUBLISHED, PublishedWeights
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import DetectorOptions
from segpipe.training.start import initialise


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """A file like that of `mask-rcnn-coco`, with random weights, where a download would lie."""
    monkeypatch.setenv("SEGPIPE_CACHE", str(tmp_path))
    real = next(weights for weights in PUBLISHED if weights.name == "mask-rcnn-coco")
    network = build_detector(real.model("0" * 64), DetectorOptions())
    torch.save(network.state_dict(), real.cached)
    ours = replace(real, sha256_prefix=sha256_file(real.cached)[:8])
    monkeypatch.setattr(catalog, "PUBLISHED", (ours,))
    return ours


def test_other_classes_keep_all_but_the_predictors(published: PublishedWeights) -> None:
    ours = published.model("0" * 64).model_copy(update={"classes": ("background", "cell", "dirt")})
    network = build_detector(ours, DetectorOptions())
    transfer = initialise(network, published.name)
    assert transfer is not None
    assert transfer.sha256 == sha256_file(published.cached)
    parts = {name.rsplit(".", 1)[0] for name in transfer.fresh}
    assert parts == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_predictor.mask_fcn_logits",
    }
    assert len(transfer.dropped) == len(transfer.fresh) == 6
    source = torch.load(published.cached, weights_only=True)
    state = network.state_dict()
    assert all(torch.equal(state[name], source[name]) for name in transfer.kept)
    assert "cls_score.weight: (91, 1024), but (3, 1024) here" in transfer.to_text()


def test_a_start_of_other_bytes_or_of_another_network_is_refused(
    published: PublishedWeights,
) -> None:
    network = torch.nn.ModuleDict({"other": torch.nn.Linear(2, 2)})
    with pytest.raises(SpecError, match="not one of its"):
        initialise(network, published.name)
    with pytest.raises(SpecError, match="the recipe wants 1234"):
        initialise(network, published.name, "1234")
    with pytest.raises(SpecError, match="has no weights"):
        initialise(network, "classical")
    assert initialise(network, "none") is None
