#!/usr/bin/env bash
# Compile the core and its C ABI to one WebAssembly module: build.sh OUT.wasm
# Needs Debian's clang-14 lld-14 wasi-libc libc++-14-dev-wasm32 libc++abi-14-dev-wasm32 libclang-rt-14-dev-wasm32.
set -euo pipefail
cd "$(dirname "$0")"
core=../../csrc

flags=(-Oz -flto -DNDEBUG -std=c++17 -mbulk-memory -ffp-contract=off -fno-math-errno -fno-trapping-math
  -Wall -Wextra -Wno-bitwise-instead-of-logical -Werror -nostartfiles -Wl,--no-entry -Wl,--strip-all)
# Whoever exports the constructors calls them himself: without that, every export would call exit() of the C library.
for name in __wasm_call_ctors __stack_pointer stale_allocate stale_release_all stale_core_abi_version stale_tiou \
  stale_soft_nms stale_mask_segments stale_decode_paper stale_decode_release stale_take_video_label; do
  flags+=("-Wl,--export=$name")
done
# A function of the host does the throwing, so the catching in stale_core_c.cpp compiles to nothing.
clang++-14 --target=wasm32-wasi "${flags[@]}" -I "$core" -o "$1" \
  host.cpp "$core"/{checks,segments,soft_nms,decode_paper,decode_release,stale_core_c}.cpp
