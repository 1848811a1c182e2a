#!/usr/bin/env bash
# Build the core's shared library, then the program: build.sh OUT_FOLDER [FOLDER_OF_LIBONNXRUNTIME]
set -euo pipefail
cd "$(dirname "$0")"
out=$1 onnxruntime=${2:-}
cmake -S ../../csrc -B "$out/core" -DSTALE_EDGE_BUNDLE=OFF > "$out/cmake.txt"
cmake --build "$out/core" --target stale_core_c
rustc --edition 2021 -O -D warnings main.rs -o "$out/stale_detect" -L "$out/core" \
  -C link-arg="-Wl,-rpath,$out/core${onnxruntime:+:$onnxruntime}"
