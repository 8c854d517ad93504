"""How torchvision itself turns the small masks of Mask R-CNN into masks of the image.

What `masks.paste` does is measured and tested against this; the pipeline does not use it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

FloatArray = npt.NDArray[np.float32]


def paste_densely(
    probabilities: FloatArray, boxes_xyxy: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """(N, H, W) float32 probabilities in the frame of the image.

    Args:
        probabilities: (N, S, S), in the frame of each box.
        boxes_xyxy: (N, 4), in pixels of the image, inside it.
        shape: (H, W) of the image.
    """
    masks = torch.from_numpy(probabilities)[:, None]
    pasted: torch.Tensor = paste_masks_in_image(masks, torch.from_numpy(boxes_xyxy), shape)
    dense: FloatArray = pasted[:, 0].numpy()
    return dense
