"""The rooms of the package and the direction of their imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "stale_edge"

# Top to bottom: a room imports only from rows below its own.
ROWS = [
    {"cli"},
    {"demo", "study"},
    {"benchmarking", "jobs", "serving"},
    {"exporting"},
    {"training"},
    {"model", "runtime", "interchange"},
    {"data", "decoding", "evaluation", "hub", "report", "video"},
    {"bundle"},
    {"config", "segments", "errors", "paths", "progress", "machine", "version", "_core"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
TORCH_ROOMS = {"demo", "study", "exporting", "training", "model", "benchmarking/torch_rows"}
TORCH_FILES = {"data/dataset.py"}
TORCH_PACKAGES = {"torch", "transformers", "accelerate", "safetensors", "fvcore", "tokenizers"}
# The lowest row has its own order: every room may raise an error.
FOUNDATION = {
    ("config", "errors"),
    ("segments", "errors"),
    ("machine", "version"),
    ("paths", "errors"),
    ("config", "paths"),
}


def _files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in LEVEL)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _needs_torch(path: Path) -> bool:
    inside = path.relative_to(PACKAGE).as_posix()
    return inside in TORCH_FILES or any(inside.startswith(f"{room}/") for room in TORCH_ROOMS)


def _imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            front = node.module == PACKAGE.name  # the front imports the rooms, so no room may import the front
            yield from [PACKAGE.name] if front else (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    """Find the file of this package that defines an imported name."""
    parts = name.split(".")[1:]
    while parts:
        path = PACKAGE.joinpath(*parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
        parts.pop()
    return None


def test_imports_point_down() -> None:
    wrong = []
    for path in _files():
        room = _room(path)
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] != PACKAGE.name or parts[1:2] == [room]:
                continue
            target = parts[1] if len(parts) > 1 else "the front of the package"
            if target not in LEVEL or not (LEVEL[target] > LEVEL[room] or (room, target) in FOUNDATION):
                wrong.append(f"{path.relative_to(PACKAGE)}: {room} must not import {target}: {name}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too: they hide a circle from Python, not from a reader."""
    graph = {
        path: {_file_of(name) for name in _imports(path) if name.startswith(f"{PACKAGE.name}.")} - {None, path}
        for path in _files()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(str(path.relative_to(PACKAGE)) for path in error.args[1])) from error


def test_torch_stays_in_its_rooms() -> None:
    wrong = []
    for path in _files():
        if _needs_torch(path):
            continue
        for name in _imports(path, top_level_only=True):
            file = _file_of(name) if name.startswith(f"{PACKAGE.name}.") else None
            if name.split(".")[0] in TORCH_PACKAGES or (file is not None and _needs_torch(file)):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name} when it is imported")
    assert not wrong, "\n".join(wrong)


def test_every_folder_is_a_known_room() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(LEVEL), f"rooms without a row: {sorted(folders - set(LEVEL))}"


def test_the_public_surface_never_imports_torch() -> None:
    script = (
        "import sys, stale_edge as s\n"
        "s.load_bundle, s.decode, s.soft_nms, s.average_precision, s.mean_average_precision, s.Localizer, s.Detection\n"
        "from stale_edge import *\n"
        "import stale_edge.cli\n"
        f"found = sorted({TORCH_PACKAGES!r} & set(sys.modules))\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_load_checkpoint_without_torch_names_the_extra() -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nimport stale_edge\n"
        "try:\n    stale_edge.load_checkpoint('run/best')\n"
        "except stale_edge.errors.MissingExtraError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == (
        "a checkpoint needs torch: pip install 'stale-edge[train]'; a bundle needs only load_bundle\n"
    ), result.stderr


# A file of `cli` is named after its command, one of `config` after what reads its settings, and the files of one
# architecture after the parts that all architectures have.
NAMED_AFTER_OTHERS = re.compile(r"cli/|config/|model/\w+/")


def test_a_module_name_stands_for_one_module() -> None:
    names: dict[str, list[str]] = {}
    for path in _files():
        inside = path.relative_to(PACKAGE).as_posix()
        if path.stem != "__init__" and not NAMED_AFTER_OTHERS.match(inside):
            names.setdefault(path.stem, []).append(inside)
    wrong = [", ".join(files) for name, files in names.items() if len(files) > 1]
    assert not wrong, "\n".join(wrong)


def test_a_shared_type_is_defined_once() -> None:
    homes: dict[str, list[str]] = {"Precision": [], "Progress": [], "Worker": []}
    for path in _files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            defined = [node.name] if isinstance(node, ast.ClassDef) else [ast.unparse(target) for target in targets]
            for name in set(defined) & set(homes):
                homes[name].append(path.relative_to(PACKAGE).as_posix())
    assert homes == {"Precision": ["config/runtimes.py"], "Progress": ["progress.py"], "Worker": ["jobs/pool.py"]}


# Functions that a program calls with keywords of its own; all others take a value that has a name.
PUBLIC = {"decode", "detect", "export_checkpoint", "soft_nms"}


def test_functions_have_fewer_than_eight_parameters() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in _files()
        if path.parent.name != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in PUBLIC
        if len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - _is_method(node) >= 8
    ]
    assert not wrong, "\n".join(wrong)


def _is_method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(node.args.args) and node.args.args[0].arg in ("self", "cls")


def test_names_are_no_metaphors() -> None:
    words = ("contestant", "judge", "promise", "subject", "verdict", "yardstick")
    wrong = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in _files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and any(word in node.name.lower() for word in words)
    ]
    assert not wrong, "\n".join(wrong)
