"""Package structure: imports go one way, and the wheel contains exactly the files of the tree."""

from __future__ import annotations

import ast
import os
import shutil
import site
import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import mien

ROOT = Path(mien.__file__).parent
ROOMS = ("runtime", "bench", "export")
GROUND = "runtime"
"""Folder whose own files (errors, values, files, outputs, signals) every other folder may import."""
HOUSE = {
    "runtime/models": "",
    "runtime/vision": "",
    "runtime/backends/ort": "runtime/models",
    "runtime/backends/trt": "runtime/models",
    "runtime/backends": "runtime/models runtime/backends/ort runtime/backends/trt",
    "runtime/pictures": "",
    "runtime/capture": "runtime/vision runtime/pictures",
    "runtime/output": "runtime/vision runtime/pictures",
    "runtime/faces": "runtime/models runtime/vision runtime/backends",
    "runtime/tracking": "runtime/models runtime/vision runtime/faces",
    "runtime/pipeline": "runtime/models runtime/vision runtime/backends runtime/faces runtime/tracking",
    "runtime/doctor": "runtime/models runtime/backends/ort runtime/backends runtime/capture runtime/output",
    "runtime/batch": "runtime/models runtime/vision runtime/pictures runtime/capture runtime/output runtime/faces "
    "runtime/pipeline",
    "runtime/live": "runtime/models runtime/pictures runtime/capture runtime/output",
    "runtime/commands": "runtime/models runtime/backends/ort runtime/backends/trt runtime/backends runtime/pictures "
    "runtime/capture runtime/output runtime/faces runtime/tracking runtime/pipeline runtime/doctor runtime/batch "
    "runtime/live",
    "bench/timing": "runtime/models",
    "bench/data": "runtime/models runtime/vision runtime/pictures runtime/capture runtime/faces runtime/pipeline",
    "bench/worker": "runtime/models runtime/vision runtime/backends/ort runtime/backends runtime/capture runtime/faces "
    "runtime/tracking runtime/pipeline bench/timing",
    "bench/accuracy": "runtime/models runtime/vision runtime/pictures runtime/faces runtime/pipeline bench/timing "
    "bench/data",
    "bench/parity": "runtime/models bench/accuracy",
    "bench/report": "runtime/models runtime/vision runtime/pictures bench/timing bench/data bench/worker "
    "bench/accuracy bench/parity",
    "bench": "runtime/models runtime/backends runtime/faces runtime/pipeline bench/timing bench/accuracy bench/parity "
    "bench/report",
    "bench/suite": "runtime/models runtime/backends runtime/batch bench/timing bench/data bench/worker "
    "bench/accuracy bench/parity bench/report bench",
    "bench/studies": "runtime/models runtime/vision runtime/backends/ort runtime/pictures runtime/capture "
    "runtime/output runtime/faces runtime/tracking runtime/pipeline runtime/batch runtime/live bench/timing bench/data "
    "bench/accuracy bench/report",
    "bench/commands": "runtime/models runtime/backends runtime/faces runtime/pipeline runtime/commands bench/timing "
    "bench/accuracy bench/report bench bench/suite",
    "export/networks": "runtime/models",
    "export/training": "runtime/models runtime/pictures bench/data export/networks",
    "export/training/tasks": "runtime/models runtime/vision runtime/pictures runtime/pipeline bench/data "
    "bench/accuracy export/networks export/training",
    "export/pytorch": "runtime/models bench/timing bench/worker bench/suite export/networks",
    "export/convert": "runtime/models runtime/vision runtime/backends/ort runtime/pictures runtime/capture "
    "runtime/faces runtime/pipeline bench/timing bench/data bench/worker bench/accuracy bench/parity bench bench/suite "
    "export/networks export/pytorch",
    "export": "runtime/models export/networks export/training export/pytorch export/convert",
    "export/studies": "runtime/models runtime/backends/ort bench/timing bench/worker bench/report bench/suite "
    "export/networks export/convert export",
    "export/commands": "runtime/models runtime/commands bench bench/commands export/networks export/training "
    "export/training/tasks export/convert",
}
"""Folders that each folder may import, apart from itself and `GROUND`; a folder comes after all that it imports."""
ONLY_IN_EXPORT = {"torch", "torchvision", "onnx", "onnxscript", "safetensors"}
ONLY_IN = {
    "starlette": {"page_server", "page_app", "page_access"},
    "uvicorn": {"page_server", "page_app", "page_access"},
    "matplotlib": {"curves", "size_and_angle"},
    "ray": {"ray_cluster"},
    "pyarrow": {"storage"},
    "tensorrt": {"device"},
    "cuda": {"device"},
}


def sources(room: str) -> list[Path]:
    """List all Python files below one of the three packages."""
    return sorted(path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


def imports_of(path: Path, text: str) -> set[str]:
    """Return the absolute names of all modules imported anywhere in a file, and of what is imported from them."""
    package = ("mien", *path.relative_to(ROOT).parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = [*base, *([node.module] if node.module else [])]
            names |= {".".join(module), *(".".join([*module, alias.name]) for alias in node.names)}
    return names


def folder_of(module: str) -> str:
    """Return the folder that a package is, or that contains a module or what is imported from it."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return next(p for p in (path, *path.parents) if p.is_dir()).relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    for path in sources(room):
        folder = path.parent.relative_to(ROOT).as_posix()
        allowed = {folder, GROUND, *HOUSE.get(folder, "").split()}
        for name in imports_of(path, path.read_text(encoding="utf-8")):
            top = name.split(".")[0]
            if top == "mien" and name not in ("mien", "mien.__version__"):
                assert folder_of(name) in allowed, f"{path.relative_to(ROOT)} imports {name}"
            assert room == "export" or top not in ONLY_IN_EXPORT, f"{path.relative_to(ROOT)} imports {name}"
            assert path.stem in ONLY_IN.get(top, {path.stem}), f"{path.relative_to(ROOT)} imports {name}"


def test_an_import_of_a_folder_is_seen() -> None:
    file = ROOT / "runtime" / "vision" / "file.py"
    names = imports_of(file, "from .. import live, errors\nfrom ..models.spec import Task\nimport cv2")
    assert {folder_of(name) for name in names if name != "cv2"} == {"runtime", "runtime/live", "runtime/models"}


def test_folders_do_not_import_in_circles() -> None:
    """Every folder is in the table, after the folders that it may import, and has a docstring."""
    folders = {path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in sources(room)}
    assert folders == {GROUND, *HOUSE}
    order = list(HOUSE)
    for folder, imported in HOUSE.items():
        for other in imported.split():
            assert order.index(other) < order.index(folder), f"{folder} imports {other}, which comes after it"
    for folder in folders:
        docstring = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))
        assert docstring is not None and len(docstring) > 20, folder


def test_only_optional_libraries_are_imported_by_name() -> None:
    """TensorRT, and the plugins of Pillow."""
    for path in sources("runtime"):
        assert path.stem in ("device", "decode") or "importlib.import" not in path.read_text(encoding="utf-8"), path


def test_import_loads_no_torch() -> None:
    heavy = ("torch", "onnx", "matplotlib", "starlette", "uvicorn", "tensorrt", "cuda", "ray", "pyarrow", "mien.export")
    code = f"import sys, mien; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_a_pipeline_writes_nothing_to_the_home_folder(tmp_path: Path) -> None:
    code = "import mien; mien.Pipeline.load().close()"
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.rglob("*"))


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, mien.cli; print([m for m in ('torch', 'onnx', 'starlette', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bench_needs_no_torch_and_no_onnx() -> None:
    """A device can measure latency, parity and accuracy without the training packages."""
    code = """
import sys
for name in ("torch", "torchvision", "onnx", "onnxscript"):
    sys.modules[name] = None
from mien.bench.timing import interleave
from mien.cli import app
interleave.SETTLED = 1e9  # warm up briefly
app(["bench", "--baseline", "none", "--rounds", "1", "--calls-per-round", "1"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "landmarks" in done.stdout


def test_public_names() -> None:
    assert sorted(mien.__all__) == [
        "Face",
        "Faces",
        "Frame",
        "MienError",
        "ModelSpec",
        "OnnxRunner",
        "Pipeline",
        "Provider",
        "blur_faces",
        "draw_faces",
        "head_pose",
        "open_capture",
    ]


def test_no_module_hides_another() -> None:
    for room in ROOMS:
        for path in sources(room):
            if path.stem == "__init__":
                continue
            assert path.stem not in sys.stdlib_module_names, path
            # Not by sys.path, to which onnxruntime adds a folder of its own.
            assert PathFinder.find_spec(path.stem, site.getsitepackages()) is None, path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive and the wheel, and return their folder."""
    folder = tmp_path_factory.mktemp("packages")
    source = folder / "source"  # building leaves files behind
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "demo")
    shutil.copytree(ROOT, source, ignore=left_out)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(source)
    return folder


def test_wheel_holds_the_tree(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    built = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("mien/")}
    tree = {f"mien/{p.relative_to(ROOT).as_posix()}" for room in ROOMS for p in sources(room)}
    tree = {name for name in tree if "/studies/" not in name}  # run by hand, from a checkout
    tree |= {f"mien/{name}" for name in ("__init__.py", "__main__.py", "cli.py", "py.typed", "docs/models.md")}
    tree |= {"mien/runtime/live/page.html", "mien/runtime/output/view3d.html"}
    tree |= {f"mien/runtime/weights/{p.name}" for p in (ROOT / "runtime/weights").glob("*.onnx")}
    tree |= {f"mien/export/weights/{p.name}" for p in (ROOT / "export/weights").glob("*.pt")}
    assert built == tree


def test_wheel_and_source_archive_carry_the_version_and_work(packages: Path, tmp_path: Path) -> None:
    names = {path.name for path in packages.iterdir()}
    assert names == {f"mien-{mien.__version__}.tar.gz", f"mien-{mien.__version__}-py3-none-any.whl"}
    assert f"## {mien.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    zipfile.ZipFile(packages / f"mien-{mien.__version__}-py3-none-any.whl").extractall(tmp_path)
    code = "import mien.cli, sys; sys.argv = ['mien', '--version']; mien.cli.app()"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.strip() == f"mien {mien.__version__}"


def test_spellings_of_help_agree() -> None:
    spellings = [["-m", "mien"], ["-m", "mien.cli"], [str(ROOT / "cli.py")]]
    outputs = [
        subprocess.run([sys.executable, *s, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for s in spellings
    ]
    script = Path(sys.executable).parent / "mien"
    outputs.append(subprocess.run([str(script), "--help"], capture_output=True, text=True, check=True).stdout)
    assert len(set(outputs)) == 1
    assert "Usage: mien" in outputs[0]
