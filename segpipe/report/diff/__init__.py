"""What changed between two runs: objects that are gained, lost or changed, image by image.

image      two results of one image, object by object
classes    two results of a class per pixel, class by class
runs       which runs are meant, and the images of both, one after the other
totals     what it comes to, as text and JSON
tables     a row per object, one per image, and one per class of an image, as Parquet
picture    an image with what was lost, gained and changed
"""

from segpipe.report.diff.image import CHANGED_IOU, SAME_IOU, ImageDiff, Pair, diff_image

__all__ = ["CHANGED_IOU", "SAME_IOU", "ImageDiff", "Pair", "diff_image"]
