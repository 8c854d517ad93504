"""Compiled loops over label images; `properties.py` gives them meaning.

All arrays to be read come in as `compiled.readable` gives them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint32]

# Columns of the `shapes` that `measure_regions` writes.
AREA, CENTROID_Y, CENTROID_X, PERIMETER, ECCENTRICITY, SOLIDITY, ORIENTATION = range(7)
N_SHAPES = 7

# Rows of the `intensities` that `measure_regions` writes.
MEAN, MIN, MAX, STD = range(4)
N_INTENSITIES = 4

SQRT_2 = 2**0.5

NOWHERE = -(1 << 40)
"""Further left than any pixel."""


@compiled
def find_boxes(labels: Labels, boxes: Int64s, visible: Int64s) -> int:
    """Tight boxes and pixel counts of labels 1..N, in one pass over the image.

    Args:
        labels: (H, W).
        boxes: (N, 4), written: y0, x0, y1, x1, half-open; zeros where a label has no pixel.
        visible: (N,), written: pixels of each label.

    Returns:
        The largest label met; labels above N are not written anywhere.
    """
    height, width = labels.shape
    largest = 0
    boxes[:, 0], boxes[:, 1], boxes[:, 2:] = height, width, 0
    visible[:] = 0
    for y in range(height):
        x = 0
        while x < width:
            label = labels[y, x]
            start = x
            while x < width and labels[y, x] == label:
                x += 1
            if label == 0:
                continue
            largest = max(largest, int(label))
            if label > len(visible):
                continue
            i = label - 1
            visible[i] += x - start
            boxes[i, 0] = min(boxes[i, 0], y)
            boxes[i, 1] = min(boxes[i, 1], start)
            boxes[i, 2] = y + 1
            boxes[i, 3] = max(boxes[i, 3], x)
    for i in range(len(visible)):
        if visible[i] == 0:
            boxes[i] = 0
    return largest


@compiled
def measure_regions(
    labels: Labels,
    wanted: Int64s,
    boxes: Int64s,
    pixels: npt.NDArray[np.generic],
    shapes: Float64s,
    intensities: Float64s,
) -> None:
    """Shape and intensity of the regions `labels[box] == label`, box by box.

    Args:
        labels: (h, w).
        wanted: (N,) labels to measure, from 1; row i of the arrays below is that of `wanted[i]`.
        boxes: (N, 4), tight, each with at least one pixel of its label.
        pixels: (h, w, C), of the same frame as `labels`.
        shapes: (N, 7), written; the centroid is relative to the box.
        intensities: (N, 4, C), written; not finite where float64 overflows.
    """
    for i, number in enumerate(wanted):
        label = np.uint32(number)
        y0, x0, y1, x1 = boxes[i]
        rim = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.uint8)
        left = np.full(y1 - y0, x1 - x0, np.int64)
        right = np.zeros(y1 - y0, np.int64)
        _scan_shape(labels, label, boxes[i], rim, left, right, shapes[i])
        shapes[i, PERIMETER] = _perimeter(rim, left, right)
        shapes[i, SOLIDITY] = 2 * shapes[i, AREA] / _hull_area_twice(left, right)
        _scan_intensity(labels, label, boxes[i], left, right, pixels, intensities[i])


@compiled
def _scan_shape(
    labels: Labels,
    label: np.uint32,
    box: Int64s,
    rim: npt.NDArray[np.uint8],
    left: Int64s,
    right: Int64s,
    shape: Float64s,
) -> None:
    """Area and moments into `shape`, border pixels into `rim` (padded by one), row ends.

    Coordinates are doubled and counted from the middle of the box: the sums are exact integers,
    symmetric regions have exactly symmetric moments, and nothing cancels.
    """
    height, width = labels.shape
    y0, x0, y1, x1 = box
    n = sum_y = sum_x = sum_yy = sum_xx = sum_xy = 0
    for y in range(y0, y1):
        row, v = y - y0, 2 * (y - y0) - (y1 - y0 - 1)
        count = sum_u = sum_uu = 0
        for x in range(x0, x1):
            if labels[y, x] != label:
                continue
            if count == 0:
                left[row] = x - x0
            end = x - x0 + 1
            u = 2 * (x - x0) - (x1 - x0 - 1)
            count += 1
            sum_u += u
            sum_uu += u * u
            inner = 0 < y < height - 1 and 0 < x < width - 1
            if not (
                inner
                and labels[y - 1, x] == label
                and labels[y + 1, x] == label
                and labels[y, x - 1] == label
                and labels[y, x + 1] == label
            ):
                rim[row + 1, x - x0 + 1] = 1
        if count:
            right[row] = end
        n += count
        sum_y += count * v
        sum_x += sum_u
        sum_yy += count * v * v
        sum_xx += sum_uu
        sum_xy += sum_u * v
    mean_y, mean_x = sum_y / n, sum_x / n
    shape[AREA] = n
    shape[CENTROID_Y] = 0.5 * (y1 - y0 - 1 + mean_y)
    shape[CENTROID_X] = 0.5 * (x1 - x0 - 1 + mean_x)
    # Second central moments; doubled coordinates make all three four times as large.
    yy = max(0.0, sum_yy / n - mean_y * mean_y)
    xx = max(0.0, sum_xx / n - mean_x * mean_x)
    xy = sum_xy / n - mean_x * mean_y
    middle, spread = 0.5 * (yy + xx), np.hypot(0.5 * (yy - xx), xy)
    if middle > 0:
        minor = max(0.0, middle - spread)
        shape[ECCENTRICITY] = np.sqrt(1 - minor / (middle + spread))
    else:
        shape[ECCENTRICITY] = 0.0
    if yy == xx:
        shape[ORIENTATION] = np.pi / 4 if xy > 0 else -np.pi / 4
    else:
        shape[ORIENTATION] = 0.5 * np.arctan2(2 * xy, yy - xx)


@compiled
def _perimeter(rim: npt.NDArray[np.uint8], left: Int64s, right: Int64s) -> float:
    """Length of the border (Benkrid and Crookes, Design and FPGA Implementation of a Perimeter
    Estimator, IMVIP 2000): each border pixel counts by how its border neighbours lie."""
    straight = diagonal = corner = 0
    for row in range(len(left)):
        y = row + 1
        for x in range(left[row] + 1, right[row] + 1):
            if rim[y, x] == 0:
                continue
            edges = rim[y - 1, x] + rim[y + 1, x] + rim[y, x - 1] + rim[y, x + 1]
            points = rim[y - 1, x - 1] + rim[y - 1, x + 1] + rim[y + 1, x - 1] + rim[y + 1, x + 1]
            if (edges == 2 or edges == 3) and points <= 2:
                straight += 1
            elif (edges == 0 and points == 2) or (edges == 1 and points == 3):
                diagonal += 1
            elif edges == 1 and (points == 1 or points == 2):
                corner += 1
    return straight + diagonal * SQRT_2 + corner * 0.5 * (1 + SQRT_2)


@compiled
def _hull_area_twice(left: Int64s, right: Int64s) -> int:
    """Twice the area of the convex hull of the pixels' squares, an exact integer.

    On each side a monotone chain (Andrew, Information Processing Letters 1979) runs along the
    outermost corners on the lines between rows; the left side is the right side of the mirror
    image. A row without a pixel lies between two pieces of the region.
    """
    rows = len(left)
    ys = np.empty(rows + 1, np.int64)
    xs = np.empty(rows + 1, np.int64)
    reach = np.empty(rows + 2, np.int64)
    twice = 0
    for side in range(2):
        reach[:] = NOWHERE
        for row in range(rows):
            if right[row] > 0:
                reach[row + 1] = right[row] if side == 0 else -left[row]
        n = 0
        for y in range(rows + 1):
            x = max(reach[y], reach[y + 1])
            if x == NOWHERE:
                continue
            while n >= 2 and (xs[n - 1] - xs[n - 2]) * (y - ys[n - 2]) <= (x - xs[n - 2]) * (
                ys[n - 1] - ys[n - 2]
            ):
                n -= 1
            ys[n], xs[n] = y, x
            n += 1
        for k in range(n - 1):
            twice += (ys[k + 1] - ys[k]) * (xs[k] + xs[k + 1])
    return twice


@compiled
def _scan_intensity(
    labels: Labels,
    label: np.uint32,
    box: Int64s,
    left: Int64s,
    right: Int64s,
    pixels: npt.NDArray[np.generic],
    intensity: Float64s,
) -> None:
    """Mean, extremes and population standard deviation of every channel, in one pass.

    Deviations are taken from the region's first pixel. As that is one of the n values, it is
    within sqrt(n) deviations of their mean, so the difference of squares below loses at most
    log10(n) of float64's 16 digits.
    """
    y0, x0 = box[0], box[1]
    for c in range(pixels.shape[2]):
        origin = low = high = float(pixels[y0, x0 + left[0], c])
        total = squares = 0.0
        n = 0
        for row in range(len(left)):
            y = y0 + row
            for x in range(x0 + left[row], x0 + right[row]):
                if labels[y, x] == label:
                    value = float(pixels[y, x, c])
                    low, high = min(low, value), max(high, value)
                    total += value - origin
                    squares += (value - origin) * (value - origin)
                    n += 1
        intensity[MEAN, c] = origin + total / n
        intensity[MIN, c] = low
        intensity[MAX, c] = high
        variance = squares / n - (total / n) * (total / n)
        # Not max(0, variance): that would turn an overflow's NaN into a number.
        intensity[STD, c] = 0.0 if variance < 0 else np.sqrt(variance)
