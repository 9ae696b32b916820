#!/usr/bin/env bash
# Fetches the source package of xgrammar and compiles its C++ library into build-xgrammar/, once for all presets.
# Without network the build goes on without it: structured output is then refused.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.2.9
sha256=87b466bca2475e29bb0323abc62c6c33cbcbcff47e5fb800a3e2099ac9620b90
out="$PWD/build-xgrammar"
stamp="$version $(sha256sum < tools/xgrammar.sh) $(c++ -dumpfullversion)"
[[ -f "$out/stamp" && "$(<"$out/stamp")" == "$stamp" ]] && exit 0

work="$PWD/build-xgrammar-work"
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT

# pip asks a package's build backend for its metadata, although nothing of Python is built here. This answers instead of
# the real one, so that the pinned archive is all that is fetched.
mkdir -p "$work/backend/scikit_build_core"
touch "$work/backend/scikit_build_core/__init__.py"
cat > "$work/backend/scikit_build_core/build.py" <<PYTHON
import pathlib

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name = "xgrammar-$version.dist-info"
    path = pathlib.Path(folder, name)
    path.mkdir()
    path.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: xgrammar\nVersion: $version\n")
    return name

def build_wheel(*_):
    raise NotImplementedError
PYTHON
echo "xgrammar==$version --hash=sha256:$sha256" > "$work/requirements"
if ! PYTHONPATH="$work/backend" python3 -m pip download --quiet --require-hashes --no-deps --no-binary :all: \
    --no-build-isolation --dest "$work" -r "$work/requirements" 2> "$work/log"; then
  tail -n 3 "$work/log" >&2
  echo "xgrammar: the source package of version $version was not fetched; structured output will be refused" >&2
  exit 0
fi

echo "compiling xgrammar $version, once for all presets"
tar -xzf "$work/xgrammar-$version.tar.gz" -C "$work"
# Of a string with a length xgrammar lets control characters through, which JSON does not know in strings.
converter="$work/xgrammar-$version/cpp/json_schema_converter.cc"
sed -i "s/AddCharacterClass({{'\"', '\"'}, /AddCharacterClass({{0, 0x1f}, {'\"', '\"'}, /" "$converter"
[[ "$(grep -c "AddCharacterClass({{0, 0x1f}, " "$converter")" == 1 ]]
mkdir "$work/build"
echo "set(XGRAMMAR_BUILD_PYTHON_BINDINGS OFF)" > "$work/build/config.cmake"
# Its own flags ask for link-time optimisation, which would be done again for each program linked with it. What it logs
# goes to src/grammar.
cmake -S "$work/xgrammar-$version" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_FLAGS="-O2 -fno-lto -w -DXGRAMMAR_LOG_CUSTOMIZE=1" -DCMAKE_CXX_FLAGS_RELEASE="-DNDEBUG" \
  -DCMAKE_INSTALL_PREFIX="$out" -DCMAKE_INSTALL_LIBDIR=lib > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
cmake --build "$work/build" --parallel "${JOBS:-$(nproc)}" >> "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
rm -rf "$out"
cmake --install "$work/build" >> "$work/log"
cp "$work/xgrammar-$version/"{LICENSE,NOTICE} "$out"
echo "$stamp" > "$out/stamp"
