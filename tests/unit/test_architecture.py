"""The diagram of the house: which folder may know what. Imports point down only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = "fiftyone_isoclip"
HEAVY = {
    "PIL",
    "faiss",
    "fiftyone",
    "graspologic_native",
    "imagehash",
    "jinja2",
    "lancedb",
    "matplotlib",
    "milvus_lite",
    "open_clip",
    "psycopg2",
    "pyarrow",
    "pymilvus",
    "ray",
    "scipy",
    "simplejpeg",
    "sklearn",
    "torch",
    "torchvision",
}
VECTORS = {"faiss", "graspologic_native", "scipy", "sklearn", "torch"}
PIXELS = {"PIL", "open_clip", "simplejpeg", "torch", "torchvision"}

FLOORS_AND_DOORS = {
    "projector",
    "encoder",
    "index",
    "files",
    "evaluation",
    "shards",
    "dataset",
    "demo",
    "doctor",
    "install",
}

CLIENTS = {"lancedb", "milvus_lite", "psycopg2", "pymilvus"}
"""Of databases, each known to one adapter."""

FREE = {"errors", "hardware", "installation", "__version__"}
"""What every floor may import."""

# Floor -> (what of this package it may import, heavy packages that it may import).
FLOORS: dict[str, tuple[set[str], set[str]]] = {
    "projector": (set(), set()),
    "encoder": ({"projector"}, PIXELS),
    "index": (set(), VECTORS),
    "files": ({"projector", "encoder", "index"}, {"PIL", "scipy"}),
    "shards": ({"projector", "encoder", "index", "files"}, {"pyarrow"}),
    # What runs workers; the workers themselves know no engine.
    "shards/ray_engine": ({"projector", "encoder", "index", "files"}, {"pyarrow", "ray"}),
    "shards/ray_cluster": (set(), {"ray"}),
    "evaluation": (
        {"projector", "encoder", "index", "files"},
        VECTORS | {"PIL", "imagehash", "jinja2", "matplotlib"},
    ),
    "dataset": (
        {"projector", "encoder", "index", "files", "evaluation", "shards"},
        HEAVY - CLIENTS - {"imagehash", "jinja2", "matplotlib", "open_clip", "pyarrow", "ray"},
    ),
    "dataset/lancedb": ({"dataset"}, {"fiftyone", "lancedb", "pyarrow"}),
    "dataset/milvus": ({"dataset"}, {"fiftyone", "pymilvus"}),
    "dataset/milvus_connections": ({"dataset"}, {"milvus_lite", "pymilvus"}),
    "dataset/pgvector_connections": ({"dataset"}, {"psycopg2"}),
    "dataset/pgvector": ({"dataset"}, {"fiftyone", "psycopg2"}),
    "app": ({"projector", "encoder", "files", "evaluation", "dataset"}, {"fiftyone"}),
    "demo": ({"projector", "encoder", "index", "files", "evaluation", "dataset"}, HEAVY),
    "cli": (FLOORS_AND_DOORS, HEAVY),
    "demo/run": (FLOORS_AND_DOORS, HEAVY),
    # Drawn with numpy and Pillow alone, so that a picture depends on nothing that is tested by it.
    "files/edits": (set(), {"PIL"}),
    "demo/scenes": ({"demo"}, {"PIL"}),
    "demo/shapes": ({"demo"}, {"PIL"}),
    "demo/textures": ({"demo"}, {"PIL"}),
    "demo/photographs": ({"demo"}, {"PIL"}),
}


def offences(floor: str, source: str) -> list[str]:
    """What a module on that floor imports and may not."""
    below, heavy = FLOORS[floor]
    home = floor.split("/")[0]
    found = []
    for name in imported(ast.parse(source)):
        top, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if top == PACKAGE and part not in below | FREE | {home}:
            found.append(name)
        if top in HEAVY - heavy:
            found.append(name)
    return found


def imported(tree: ast.AST) -> list[str]:
    """Every module an `import` or `from` names, wherever it stands; type checking aside."""
    names = []
    for node in tree.body if isinstance(tree, ast.Module) else ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: the floor must be readable"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            names += imported(node)
    return names


def modules() -> list[tuple[str, Path]]:
    """Each module with the most particular floor it stands on."""
    root = Path(__file__).parents[2] / PACKAGE
    found = []
    for path in sorted(root.glob("*/**/*.py")):
        folder, stem = path.relative_to(root).parts[0], path.stem
        floor = f"{folder}/{stem}" if f"{folder}/{stem}" in FLOORS else folder
        found.append((floor, path))
    return found


@pytest.mark.parametrize(("floor", "path"), modules(), ids=lambda x: getattr(x, "stem", x))
def test_imports_point_down_only(floor: str, path: Path) -> None:
    assert floor in FLOORS, f"give {floor} a floor in this table"
    assert offences(floor, path.read_text()) == []


@pytest.mark.parametrize(
    ("floor", "source", "offence"),
    [
        ("projector", "import torch", "torch"),
        ("index", "def late():\n    from PIL import Image", "PIL.Image"),
        ("encoder", "from fiftyone_isoclip import index", "fiftyone_isoclip.index"),
        ("files", "import fiftyone as fo", "fiftyone"),
        (
            "app",
            "from fiftyone_isoclip.index import CosineIndex",
            "fiftyone_isoclip.index.CosineIndex",
        ),
        ("demo/scenes", "import torch.nn", "torch.nn"),
    ],
)
def test_the_table_can_bark(floor: str, source: str, offence: str) -> None:
    assert offences(floor, source) == [offence]


def test_the_table_lets_through_what_it_allows() -> None:
    source = "import numpy\nfrom fiftyone_isoclip.errors import BandError\nimport faiss"
    assert offences("index", source) == []
    typing_only = "if TYPE_CHECKING:\n    import torch"
    assert offences("projector", typing_only) == []
