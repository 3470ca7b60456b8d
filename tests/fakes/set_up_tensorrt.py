"""NVIDIA's real ONNX parser and engine builder on a machine without a GPU, for the tests marked ``trt``.

    python tests/fakes/set_up_tensorrt.py FOLDER

The Python bindings of TensorRT 11 over the library of TensorRT-RTX, which builds engines without a driver; both come
from the package index (155 MB). It parses and builds; it does not load or run engines, and those that it builds are not
TensorRT's: they are never saved or timed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEELS = ("tensorrt-cu13-bindings==11.4.0.106", "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0")
LIBRARIES = {"libtensorrt_rtx.so": "libnvinfer.so.11", "libtensorrt_onnxparser_rtx.so": "libnvonnxparser.so.11"}
PLUGINS = "int initLibNvInferPlugins(void *logger, const char *name) { return 1; }\n"


def set_up(target: Path) -> None:
    """Put the bindings into `target`/site and the libraries into `target`/lib; nothing is left where that fails."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tensorrt-") as name:
        folder = Path(name)
        downloads, site, libraries = folder / "downloads", folder / "made/site", folder / "made/lib"
        for made in (site / "tensorrt", libraries):
            made.mkdir(parents=True)
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(downloads), *WHEELS])
        bindings, rtx = (next(downloads.glob(f"{w.split('==')[0].replace('-', '_')}-*.whl")) for w in WHEELS)
        zipfile.ZipFile(bindings).extractall(site)
        with zipfile.ZipFile(rtx) as wheel:
            for member in wheel.namelist():
                for start, library in LIBRARIES.items():
                    if Path(member).name.startswith(start):
                        (libraries / library).write_bytes(wheel.read(member))
        source = folder / "plugins.c"
        source.write_text(PLUGINS)
        plugins = "libnvinfer_plugin.so.11"
        run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{plugins}", "-o", str(libraries / plugins), str(source)])
        (site / "tensorrt" / "__init__.py").write_text(
            "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
        )
        (folder / "made").rename(target)


def run(command: list[str]) -> None:
    """Run a command; its last line of errors is what it failed of."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError((done.stderr.strip() or f"{command[0]} failed").splitlines()[-1])


if __name__ == "__main__":
    try:
        set_up(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"TensorRT's builder was not set up ({error}); try again with: make .tensorrt")
