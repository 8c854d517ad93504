"""The layout is the architecture: imports point one way, and heavy packages stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import segpipe

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    {"errors", "geometry", "records", "frozen", "clusters", "spec", "schema"},
    {
        "compiled",
        "planning",
        "masks",
        "measure",
        "overlap",
        "clock",
        "progress",
        "segmenters.base",
        "segmenters.preprocess",
        "segmenters.splitting",
    },
    {"buckets", "readers", "segmenters", "store", "provenance", "machine"},
    {
        "object_rows",
        "rows",
        "items",
        "batching",
        "passes",
        "large",
        "pipeline",
        "engine",
        "execution",
        "census",
        "planner",
        "report",
        "query",
        "archive",
        "truth",
        "export",
        "training",
        "bench",
        "deployment",
        "demo",
        "demo_fields",
        "reproduction",
        "viewer",
    },
    {"cli", "flows", "", "__main__"},
]

ROOMS = {
    "torch": ("segmenters", "training", "bench.loops", "bench.networks"),
    "torchvision": ("segmenters", "training"),
    "openvino": ("segmenters",),
    "cv2": ("segmenters", "training"),
    "segmentation_models_pytorch": ("segmenters", "training", "bench.networks"),
    "zarr": ("store", "readers"),
    "obstore": ("buckets", "store"),
    "dask": ("engine", "archive"),
    "distributed": ("engine",),
    "prefect": ("flows",),
}


def modules() -> dict[str, Path]:
    """Name below `segpipe` -> file, flows included."""
    found = {}
    for folder, prefix in ((ROOT / "segpipe", ()), (ROOT / "flows", ("flows",))):
        for path in folder.rglob("*.py"):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix("__init__").removesuffix(".")] = path
    return found


MODULES = modules()


def layer_of(module: str) -> int:
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(parts[:end]) in names:
                return number
    raise AssertionError(f"segpipe.{module} is in no layer; give it one")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it is imported when the module is) of every import."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide the direction"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                below = full.removeprefix("segpipe.")
                yield (full if below in MODULES else node.module), id(node) in top


def own(name: str) -> str | None:
    """The name below `segpipe`; None for other packages."""
    if name == "segpipe":
        return ""
    return name.removeprefix("segpipe.") if name.startswith("segpipe.") else None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_import_goes_to_its_own_layer_or_a_lower_one(module: str) -> None:
    for name, _ in imports(MODULES[module]):
        target = own(name)
        if target is not None and (module, target) not in FACADE:
            assert layer_of(target) <= layer_of(module), f"segpipe.{module} imports {name}"


FACADE = {
    # Only for the folder it lies in.
    ("provenance.environment", ""),
}


def test_no_cycles_between_modules() -> None:
    graph = {
        module: {own(name) for name, at_import in imports(path) if at_import} & set(MODULES)
        for module, path in MODULES.items()
    }
    seen: dict[str, int] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join((*trail, module))}"
        if seen.get(module):
            return
        for target in sorted(graph[module]):
            if target and target != module:
                visit(target, (*trail, module))
        seen[module] = 1

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_heavy_packages_stay_in_their_rooms(module: str) -> None:
    for name, _ in imports(MODULES[module]):
        rooms = ROOMS.get(name.split(".")[0])
        assert rooms is None or module.startswith(rooms), f"segpipe.{module} imports {name}"


def test_no_module_hides_a_public_name() -> None:
    """Importing `segpipe.x` sets `x` on the package: a function of that name would be gone."""
    assert not set(segpipe.__all__) & {module.split(".")[0] for module in MODULES}


def test_every_package_folder_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        "segpipe" + f".{module}" * bool(module)
        for module, path in MODULES.items()
        if path.name == "__init__.py"
    }
    assert set(listed) == folders


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = (
        "import sys, segpipe.cli.main\n"
        "heavy = {'torch', 'prefect', 'dask', 'distributed', 'zarr', 'pyarrow', 'duckdb', 'numba',"
        " 'numpy', 'scipy', 'skimage', 'PIL', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_takes_under_half_a_second() -> None:
    """The promise itself; the best of five, so that a busy machine does not decide."""

    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "segpipe", "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.5
