"""What is planned to be in memory is what there is room for, and nothing fails needlessly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import BudgetError, InputError, Reason
from segpipe.machine import memory_limit
from segpipe.planning.memory import (
    SMALLEST,
    UNLIMITED,
    Budget,
    Cost,
    Pass,
    image_cost,
    plan_passes,
    worker_budget,
)
from segpipe.records import Header
from segpipe.segmenters.base import Footprint

MB = 1 << 20


@st.composite
def costs(draw: st.DrawFn) -> Cost:
    """An image at a stage takes no less than it takes while it waits."""
    waiting = draw(st.integers(1, 50))
    stages = [waiting + draw(st.integers(0, 200)) for _ in range(3)]
    return Cost(*stages, waiting=waiting)


def planned_bytes(some: Pass, members: list[Cost], batches: list[int]) -> int:
    """What a pass has in memory at its worst: an image in each stage, and both queues full."""
    stages = [
        max(cost.load for cost in members),
        max(cost.answer * min(b, some.batch) for cost, b in zip(members, batches, strict=True)),
        max(cost.record for cost in members),
    ]
    return sum(stages) + 2 * some.queue_bytes if some.ahead else max(stages)


@given(
    st.lists(st.tuples(costs(), st.integers(1, 8)), max_size=12),
    st.integers(0, 3000),
    st.integers(0, 8),
)
def test_no_pass_takes_more_than_there_is(
    planned: list[tuple[Cost, int]], room: int, ahead: int
) -> None:
    planned = [(cost, batch) for cost, batch in planned if cost.alone <= room]
    images, batches = [cost for cost, _ in planned], [batch for _, batch in planned]
    passes = plan_passes(images, room, ahead, batches)
    assert sorted(index for some in passes for index in some.images) == list(range(len(images)))
    for some in passes:
        members = [images[index] for index in some.images]
        assert list(some.images) == sorted(some.images)
        sizes = [batches[index] for index in some.images]
        assert planned_bytes(some, members, sizes) <= room
        assert 1 <= some.batch <= max(sizes)
        if some.ahead:
            # Each image finds a place in a queue without being the one that waits alone.
            assert some.queue_bytes >= max(cost.waiting for cost in members)


@given(st.lists(costs(), min_size=1, max_size=12), st.integers(0, 3000))
def test_an_image_goes_alone_only_where_it_has_to(images: list[Cost], room: int) -> None:
    images = [cost for cost in images if cost.alone <= room]
    passes = plan_passes(images, room, 8, [4] * len(images))
    alone = {index for some in passes if not some.ahead for index in some.images}
    together = [cost for index, cost in enumerate(images) if index not in alone]
    for index in alone:
        largest = images[index]
        for cost in together:
            largest = largest.joined(cost)
        assert largest.overlapped > room


@given(st.lists(costs(), min_size=1, max_size=12), st.integers(1, 8), st.integers(1, 8))
def test_without_a_limit_all_go_together(images: list[Cost], ahead: int, batch: int) -> None:
    (some,) = plan_passes(images, UNLIMITED.room, ahead, [batch] * len(images))
    assert (some.ahead, some.batch, len(some.images)) == (ahead, batch, len(images))
    assert some.queue_bytes > ahead * sum(cost.waiting for cost in images)


@given(costs(), st.integers(0, 1000), st.integers(10, 2000))
def test_an_image_that_is_refused_says_with_how_much_it_would_fit(
    cost: Cost, taken: int, limit: int
) -> None:
    """In words that can be typed back in."""
    stages = (cost.load, cost.answer, cost.record, cost.waiting)
    large = Cost(*(part * 10 * MB for part in stages))
    try:
        Budget(limit * MB, taken * MB).check(large)
    except InputError as error:
        assert error.reason is Reason.TOO_LARGE
        told = re.fullmatch(
            r"needs about (\S+) GB of memory; a worker may use (\S+) GB \(memory_gb\)", error.detail
        )
        assert told is not None
        need, have = map(float, told.groups())
        assert have <= limit * MB / 1e9 < have + 0.01
        assert have < need
        Budget(int(need * 1e9), taken * MB).check(large)
    else:
        assert large.alone + taken * MB <= limit * MB


def test_a_worker_without_room_for_a_small_image_is_not_started() -> None:
    footprint = Footprint(waiting=MB, prepare=MB, forward=300 * MB, finish=MB)
    worker_budget(1900 * MB, 800 * MB, stacks=1).check_smallest(footprint)
    with pytest.raises(BudgetError, match=r"needs about 1\.7\d GB of .* may use 1\.00 GB"):
        worker_budget(1000 * 1000 * 1000, 800 * MB, stacks=1).check_smallest(footprint)


def test_a_larger_image_costs_more() -> None:
    footprint = Footprint(10 * MB, 10 * MB, 10 * MB, 10 * MB)
    small = image_cost(SMALLEST, 100, footprint)
    for larger in (
        image_cost(Header(256, 512, 3, "uint8", "png", ""), 100, footprint),
        image_cost(Header(256, 256, 3, "float64", "tiff", ""), 100, footprint),
    ):
        assert larger.joined(small) == larger
        assert larger.waiting > small.waiting
    assert image_cost(SMALLEST, 100 * MB, footprint).load > small.load


PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, PHYSICAL),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, PHYSICAL),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "900\n"}, 900),
        (
            # A batch job: the limit is the job's, and the step in it has none of its own.
            {
                "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
                "sys/fs/cgroup/slurm/job_7/memory.max": "500\n",
                "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
            },
            500,
        ),
        (
            # A container of version 1 sees the path of its host, and its own limit at the root.
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "700\n",
            },
            700,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            PHYSICAL,
        ),
    ],
    ids=["no groups", "no limit", "version 2", "batch job", "container", "version 1, no limit"],
)
def test_control_groups_limit_the_memory(
    files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == expected


MEASURE = """
import ctypes, gc, json, sys
import numpy as np
import torch
from scipy import ndimage
from segpipe.records import DecodedImage, Header
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import RunSpec

def resident(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def peak(work):
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # The peak is that from here on.
    before = resident("VmRSS")
    return work(), resident("VmHWM") - before

def decoded(side):
    rough = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((side, side, 3)), 3)
    pixels = np.uint8(255 * (rough - rough.min()) / np.ptp(rough))
    return DecodedImage(pixels, Header(side, side, 3, "uint8", "png", ""), "")

found = {}
for model, side in json.loads(sys.argv[1]):
    resolved = resolve(RunSpec(source="-", store="-", model=model))
    segmenter = build(resolved.spec, resolved.weights_path, 1)
    for image in decoded(64), decoded(side):  # The first one compiles and loads.
        prepared, prepare = peak(lambda: segmenter.prepare(image))
        (raw,), forward = peak(lambda: segmenter.forward([prepared]))
        _, finish = peak(lambda: segmenter.finish(raw, image))
    expected = segmenter.footprint(image.header)
    found[f"{model} {side}"] = {
        "prepare": (prepare, expected.prepare),
        "forward": (forward, expected.forward),
        "finish": (finish, expected.finish),
    }
print(json.dumps(found))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_what_segmenters_say_of_their_memory_is_not_too_low() -> None:
    """Nor so high that it would be useless, where it decides: in the stage that takes the most."""
    models = [("classical", 768), ("unet-nuclei", 320), ("unet-nuclei", 2048),
              ("unet-oct-fluid", 384), ("mask-rcnn-nuclei", 512), ("rcnn-nuclei", 128)]  # fmt: skip
    command = [sys.executable, "-c", MEASURE, json.dumps(models)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for model, stages in found.items():
        for stage, (measured, expected) in stages.items():
            assert measured <= expected, f"{model}: {stage}: {measured:,} of {expected:,}"
        measured, expected = max(stages.values())
        assert expected < 10 * measured, f"{model}: {expected:,} for {measured:,}"
