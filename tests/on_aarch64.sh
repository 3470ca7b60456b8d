#!/usr/bin/env bash
# Runs mien on emulated aarch64 and compares it with this machine: predict to 0.05 px, and verify of a bundle.
#
#   tests/on_aarch64.sh FOLDER [BUNDLE]
#
# FOLDER gets a Debian root and the aarch64 wheels of mien's own dependencies (0.5 GB, kept for the next time).
# BUNDLE: of mien bundle; else one is made. Needs Debian's qemu-user-static and debootstrap, the package index, and an
# environment with mien (PYTHON, default python3); no binfmt. debootstrap wants to be root, or under fakeroot.
# CPU: qemu's processor, default cortex-a76, near the Orin's: half floats and dot products, no SVE.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
tree=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
bundle=${2:+$(realpath "$2")}
cd "$folder"

if [ ! -x root/usr/bin/python3 ]; then
    rm -rf root
    # --foreign only unpacks, which no other processor has to be emulated for; what it leaves packed is unpacked here.
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3 bookworm root > debootstrap.log
    for package in root/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" root; done
    # Else ONNX Runtime meets the host's processor here, and another one in qemu.
    for i in 0 1; do
        printf 'processor : %s\nFeatures : fp asimd crc32 atomics fphp asimdhp asimdrdm asimddp\n' $i
        printf 'CPU implementer : 0x41\nCPU architecture: 8\nCPU variant : 0x3\nCPU part : 0xd0c\nCPU revision : 1\n\n'
    done > root/proc/cpuinfo
fi
if [ ! -d site/cv2 ]; then
    "$python" -m pip download --quiet --only-binary=:all: --implementation cp --python-version 311 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        --dest wheels 'numpy>=1.26' 'typer>=0.15.4' 'rich>=13' 'onnxruntime>=1.20' 'opencv-python-headless>=4.8'
    for wheel in wheels/*.whl; do "$python" -m zipfile -e "$wheel" site; done
fi
ln -sfn "$tree" mien
device=(env "PYTHONPATH=$folder/site:$folder" PYTHONDONTWRITEBYTECODE=1
    qemu-aarch64-static -cpu "${CPU:-cortex-a76}" -L root root/usr/bin/python3)
"${device[@]}" -c 'import platform, onnxruntime; print(platform.machine(), "onnxruntime", onnxruntime.__version__)'

photo=$("$python" -c 'from mien.runtime.capture.demo_camera import find_photo; print(find_photo()[0])')
"$python" "$tree/cli.py" predict "$photo" --provider cpu --precision fp32 --json - > here.json
"${device[@]}" -m mien.cli predict "$photo" --provider cpu --precision fp32 --json - > there.json
"$python" - <<'END'
import json
import sys

import numpy as np

here, there = (json.load(open(name))["faces"] for name in ("here.json", "there.json"))
if not here or len(here) != len(there):
    sys.exit(f"{len(here)} faces here, {len(there)} there")
points = max(np.abs(np.subtract(a["landmarks"], b["landmarks"])).max() for a, b in zip(here, there))
boxes = max(np.abs(np.subtract(a["box"], b["box"])).max() for a, b in zip(here, there))
years = max(abs(a["age"] - b["age"]) for a, b in zip(here, there))
print(f"faces: {len(here)}; landmarks differ by at most {points:.3f} px, boxes {boxes:.3f} px, ages {years:.3f} years")
if not (points <= 0.05 and boxes <= 0.5 and years <= 0.05):
    sys.exit("too much: wanted at most 0.05 px, 0.5 px and 0.05 years")
END

if [ -z "$bundle" ]; then
    bundle=$folder/made.mien
    "$python" "$tree/cli.py" bundle -o "$bundle" --rounds 0 > /dev/null
fi
"${device[@]}" -m mien.cli verify "$bundle" --provider cpu --rounds "${ROUNDS:-0}"

# A byte of the largest member, in the middle of the file, is another one: this must not pass.
cp "$bundle" damaged.mien
"$python" - <<'END'
data = bytearray(open("damaged.mien", "rb").read())
data[len(data) // 2] ^= 1
open("damaged.mien", "wb").write(data)
END
if "${device[@]}" -m mien.cli verify damaged.mien --rounds 0; then
    echo "a damaged bundle was taken for a whole one" >&2
    exit 1
fi
echo "aarch64 computes what this machine computes"
