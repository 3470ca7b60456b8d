"""Write tensorrt_api.json: what the classes that engines use offer in the real bindings, by version.

    python tests/fakes/make_tensorrt_api.py WHEEL…

WHEELs are tensorrt_cu12_bindings or tensorrt_cu13_bindings, and cuda_core (with its cuda_bindings and cuda_pathfinder
importable). The libraries that TensorRT's bindings want are replaced by ones whose functions do nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).with_name("tensorrt_api.json")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
CLASSES = {
    "tensorrt": [
        "Builder",
        "BuilderFlag",
        "DataType",
        "IBuilderConfig",
        "ICudaEngine",
        "EngineInspector",
        "IExecutionContext",
        "ILayer",
        "ILogger",
        "INetworkDefinition",
        "IOptimizationProfile",
        "IProgressMonitor",
        "ITensor",
        "ITimingCache",
        "LayerInformationFormat",
        "LayerType",
        "MemoryPoolType",
        "NetworkDefinitionCreationFlag",
        "OnnxParser",
        "ParserError",
        "ProfilingVerbosity",
        "Runtime",
    ],
    "cuda.core": ["Buffer", "Device", "Graph", "GraphBuilder", "LegacyPinnedMemoryResource", "Stream"],
}
LIST = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
names = {"": [n for n in dir(module) if n[0] != "_"]}
for name in sys.argv[2:]:
    for place in (module, getattr(module, "graph", None)):
        if hasattr(place, name):
            names[name] = [n for n in dir(getattr(place, name)) if n[0] != "_"]
            break
if hasattr(module, "ILogger"):
    names["ILogger.Severity"] = [n for n in dir(module.ILogger.Severity) if n[0] != "_"]
print(json.dumps({"version": getattr(module, '__version__', ''), "names": names}))
"""


def list_names(folder: Path, module: str, classes: list[str], libraries: Path) -> dict[str, object]:
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "LD_LIBRARY_PATH": str(libraries)}
    command = [sys.executable, "-c", LIST, module, *classes]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def make_libraries(folder: Path) -> None:
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}() {{ return 0; }}\n" for name in FUNCTIONS))
    for major in (10, 11):
        for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            library = f"lib{name}.so.{major}"
            subprocess.run(
                ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / library, source], check=True
            )


def main(wheels: list[str]) -> None:
    found = {}
    for wheel in wheels:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            zipfile.ZipFile(wheel).extractall(folder)
            if "cuda_core" in wheel:
                old = re.search(r"cuda_core-0\.[0-3]\.", wheel)
                module = "cuda.core.experimental" if old else "cuda.core"
                told = list_names(folder, module, CLASSES["cuda.core"], folder)
                version = re.search(r"cuda_core-([\d.]+)-", wheel)[1]
                found[f"cuda.core {version}"] = told["names"]
            else:
                make_libraries(folder)
                told = list_names(folder, "tensorrt_bindings", CLASSES["tensorrt"], folder)
                found[f"tensorrt {told['version']}"] = told["names"]
    for names in found.values():
        names[""] = [n for n in names[""] if n in {*CLASSES["tensorrt"], *CLASSES["cuda.core"], "nptype"}]
    TARGET.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
