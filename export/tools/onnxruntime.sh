#!/usr/bin/env bash
# Put ONNX Runtime's C and C++ headers and library into $TOOLS/onnxruntime: include/ and lib/, as the release archive has them.
#
# Where ONNXRUNTIME_ROOT names such a folder, that is taken. Else the library is the one inside the installed Python wheel, and
# the headers come from Debian's package libonnxruntime-dev, of the next release where this one has none: they are unpacked
# into the folder, from a private copy of the machine's own sources, and the system's state stays as it is.
set -euo pipefail
target=$TOOLS/onnxruntime
test -e "$target/include/onnxruntime_c_api.h" && test -e "$target/lib/libonnxruntime.so.1" && exit 0
rm -rf "$target"
mkdir -p "$target/lib"

if [[ -n ${ONNXRUNTIME_ROOT:-} ]]; then
  ln -s "$ONNXRUNTIME_ROOT/include" "$target/include"
  ln -s "$ONNXRUNTIME_ROOT"/lib/libonnxruntime.so* "$target/lib/"
  exit 0
fi

library=$("$PYTHON" -c 'import glob, onnxruntime as o; print(glob.glob(o.__path__[0] + "/capi/libonnxruntime.so*")[0])')
ln -s "$library" "$target/lib/libonnxruntime.so"
ln -s "$library" "$target/lib/libonnxruntime.so.1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
apt=(apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts"
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)"
  -o "Acquire::Languages=none")
mkdir -p "$work"/{parts,lists/partial,cache/archives/partial}
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
for codename in "$release" trixie; do
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    test -e "$file" && sed "s/\b$release\b/$codename/g" "$file" > "$work/parts/from-${file##*/}"
  done
  (cd "$work" && "${apt[@]}" update && "${apt[@]}" download libonnxruntime-dev) 2> "$work/why" && break
done
package=("$work"/libonnxruntime-dev_*.deb)
if [[ ! -e ${package[0]} ]]; then
  echo "no headers of ONNX Runtime: $(tail -1 "$work/why"); unpack its release archive and set ONNXRUNTIME_ROOT" >&2
  exit 1
fi
dpkg-deb -x "${package[0]}" "$work/unpacked"
mv "$work/unpacked/usr/include/onnxruntime" "$target/include"
