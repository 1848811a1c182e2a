#!/usr/bin/env bash
# Compile the core and its C ABI to one WebAssembly module: build.sh OUT.wasm
# Needs Debian's clang-14 lld-14 wasi-libc libc++-14-dev-wasm32 libc++abi-14-dev-wasm32 libclang-rt-14-dev-wasm32 binaryen.
set -euo pipefail
cd "$(dirname "$0")"
core=../../csrc
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

# A function of the host does the throwing, so the catching in stale_core_c.cpp compiles to nothing.
compile=(clang++-14 --target=wasm32-wasi -Oz -flto -DNDEBUG -std=c++17 -mbulk-memory -mmutable-globals -ffp-contract=off
  -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-bitwise-instead-of-logical -Werror -I "$core")
for source in host.cpp small_math.cpp "$core"/{checks,order,segments,soft_nms,decode_paper,decode_release,decode_points,decode_runs,stale_core_c}.cpp; do
  "${compile[@]}" -c "$source" -o "$objects/$(basename "$source").o"
done

# Without -O: with it clang calls wasm-opt by itself, and does not tell it which features the module uses.
link=(clang++-14 --target=wasm32-wasi -flto -nostartfiles -Wl,--no-entry -Wl,--strip-all)
# A program that exports the constructors calls them itself: without this line, every export would call exit() of the C library.
for name in __wasm_call_ctors __stack_pointer stale_allocate stale_release_all stale_core_abi_version stale_tiou \
  stale_soft_nms stale_mask_segments stale_decode_paper stale_decode_release stale_decode_points stale_decode_runs stale_take_video_label; do
  link+=("-Wl,--export=$name")
done
"${link[@]}" "$objects"/*.o -o "$objects/linked.wasm"
wasm-opt -Oz --enable-bulk-memory --enable-mutable-globals "$objects/linked.wasm" -o "$1"
