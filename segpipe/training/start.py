"""Where weights start: an ImageNet encoder, a model with weights, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from segpipe.errors import SpecError
from segpipe.segmenters.catalog import resolve
from segpipe.segmenters.detector_network import read_state
from segpipe.segmenters.weights import load_tensors, sha256_file
from segpipe.spec import RunSpec

SHARED_ENCODER = ("encoder.model.", "backbone.encoder.")
"""Where a U-Net and a detector have the encoder that both may be built on."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What came of filling a network with the tensors of another.

    Attributes:
        sha256: of the file they come from.
        kept: tensors that fitted, by name and shape.
        dropped: tensors of the source that the network has no place for, with the reason.
        fresh: tensors of the network that stay as they were.
    """

    sha256: str
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_text(self) -> str:
        """For people; names every tensor that was dropped or stays random."""
        lines = [f"{len(self.kept)} tensors kept"]
        lines += [f"dropped {name}" for name in self.dropped]
        lines += [f"starts anew: {name}" for name in self.fresh]
        return "\n".join(lines)


def initialise(network: torch.nn.Module, start: str, sha256: str = "") -> Transfer | None:
    """Fill a network as `Recipe.start` and `Recipe.start_sha256` say, in place.

    Returns:
        What was kept and dropped; None for `none` and `imagenet`.

    Raises:
        SpecError: no such model, a file that is refused, or nothing of it fits.
    """
    if start == "none":
        return None
    if start == "imagenet":
        from segpipe.training.pretrained import load_imagenet_encoder

        load_imagenet_encoder(network)
        return None
    path = resolve(RunSpec(source="", store="", model=start, device="cpu")).weights_path
    if path is None:
        raise SpecError(f"start = {start!r}: this model has no weights")
    found = sha256_file(path)
    if sha256 and found != sha256:
        raise SpecError(f"start = {start!r}: {path} has sha256 {found}, the recipe wants {sha256}")
    source = load_tensors(path) if path.suffix == ".safetensors" else read_state(path)
    transfer = replace(keep_what_fits(network, source), sha256=found)
    if not transfer.kept:
        raise SpecError(f"start = {start!r}: not one of its {len(source)} tensors fits the network")
    return transfer


def keep_what_fits(network: torch.nn.Module, source: Mapping[str, torch.Tensor]) -> Transfer:
    """Copy the tensors of `source` whose name and shape the network has, in place.

    An encoder is kept between a U-Net and a detector too.
    """
    own = network.state_dict()
    kept, dropped = {}, []
    for source_name, tensor in source.items():
        name = _name_in(own, source_name)
        if name not in own:
            dropped.append(f"{name}: no such tensor here")
        elif own[name].shape != tensor.shape:
            dropped.append(f"{name}: {tuple(tensor.shape)}, but {tuple(own[name].shape)} here")
        else:
            kept[name] = tensor.to(own[name].dtype)
    network.load_state_dict(kept, strict=False)
    fresh = tuple(name for name in own if name not in kept)
    return Transfer("", tuple(kept), tuple(dropped), fresh)


def _name_in(own: Mapping[str, torch.Tensor], name: str) -> str:
    """The name in `own` of the same tensor of a shared encoder; else the name as it is."""
    for prefix in SHARED_ENCODER:
        if name.startswith(prefix):
            names = [other + name.removeprefix(prefix) for other in SHARED_ENCODER]
            return next((one for one in names if one in own), name)
    return name
