"""What holds the house together: imports run one way, and what is built is what lies in the tree."""

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
MAY_USE = {
    "runtime": {"runtime"},
    "bench": {"runtime", "bench"},
    "export": {"runtime", "bench", "export"},
}
ONLY_IN_EXPORT = {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "safetensors"}


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in the file."""
    package = ".".join(("mien", *path.relative_to(ROOT).parts[:-1]))
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            names.add(".".join([*base, *([node.module] if node.module else [])]))
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for name in imports_of(path):
            top = name.split(".")[0]
            if top == "mien":
                assert name.split(".")[1] in MAY_USE[room], f"{path.name} imports {name}"
            if room != "export":
                assert top not in ONLY_IN_EXPORT, f"{path.name} imports {name}"
            if top in ("starlette", "uvicorn"):
                assert path.stem in ("live_page", "page_app", "page_guard"), f"{path.name} imports {name}"
            assert top != "ray" or path.stem == "ray_cluster", f"{path.name} imports {name}"
            assert top != "pyarrow" or path.stem == "storage", f"{path.name} imports {name}"


def test_tensorrt_and_cuda_are_imported_in_one_place() -> None:
    for path in ROOT.glob("*/*.py"):
        if path.parent.name in ROOMS and path.stem != "accelerator":
            assert not {name.split(".")[0] for name in imports_of(path)} & {"tensorrt", "cuda"}, path
            assert path.parent.name != "runtime" or "importlib.import" not in path.read_text(encoding="utf-8"), path


def test_import_loads_no_torch() -> None:
    heavy = ("torch", "onnx", "matplotlib", "starlette", "uvicorn", "tensorrt", "cuda", "ray", "pyarrow", "mien.export")
    code = f"import sys, mien; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_reported_and_the_home_folder_stays_empty(tmp_path: Path) -> None:
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
    """A device measures, and tells parity and accuracy, with what it runs on."""
    code = """
import sys
for name in ("torch", "torchvision", "onnx", "onnxscript"):
    sys.modules[name] = None
from mien.cli import app
app(["bench", "--baseline", "none", "--rounds", "1", "--calls", "1"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "landmarks" in done.stdout


def test_public_names() -> None:
    assert sorted(mien.__all__) == [
        "Faces",
        "Frame",
        "MienError",
        "ModelSpec",
        "OnnxRunner",
        "Pipeline",
        "Provider",
        "draw_faces",
        "open_capture",
    ]


def test_no_module_hides_another() -> None:
    for room in ROOMS:
        for path in (ROOT / room).glob("*.py"):
            if path.stem == "__init__":
                continue
            assert path.stem not in sys.stdlib_module_names, path
            # Not by sys.path, to which onnxruntime adds a folder of its own.
            assert PathFinder.find_spec(path.stem, site.getsitepackages()) is None, path


def test_wheel_holds_the_tree(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves things behind
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "demo")
    shutil.copytree(ROOT, source, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    built = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("mien/")}
    tree = {f"mien/{p.relative_to(ROOT).as_posix()}" for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    tree |= {"mien/__init__.py", "mien/cli.py", "mien/py.typed", "mien/runtime/page.html", "mien/docs/models.md"}
    tree |= {f"mien/runtime/weights/{p.name}" for p in (ROOT / "runtime/weights").glob("*.onnx")}
    tree |= {f"mien/export/weights/{p.name}" for p in (ROOT / "export/weights").glob("*.pt")}
    assert built == tree


def test_spellings_of_help_agree() -> None:
    spellings = [["-m", "mien.cli"], [str(ROOT / "cli.py")]]
    outputs = [
        subprocess.run([sys.executable, *s, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for s in spellings
    ]
    script = Path(sys.executable).parent / "mien"
    outputs.append(subprocess.run([str(script), "--help"], capture_output=True, text=True, check=True).stdout)
    assert outputs[0] == outputs[1] == outputs[2]
    assert "Usage: mien" in outputs[0]
