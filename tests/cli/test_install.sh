#!/bin/sh
# Installs into an empty prefix, moves it, and builds an external job against it: by CMake's package
# and by pkg-config. Then the installed command runs from there.
#   test_install.sh SOURCE BUILD CMAKE CC [C flags of the build]
set -eu
source=$1 build=$2 cmake=$3 cc=$4 flags=${5-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

expect() {
    [ "$1" = "$2" ] || { echo "expected '$1', got '$2'" >&2; exit 1; }
}

"$cmake" --install "$build" --prefix "$scratch/before" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
mv "$scratch/before" "$scratch/prefix" # nothing may remember where it was
prefix=$scratch/prefix

for header in "$source"/include/trimtab/*; do
    name=include/trimtab/$(basename "$header")
    cmp -s "$header" "$prefix/$name" || { echo "$name is not installed" >&2; exit 1; }
done
for file in share/man/man1/trimtab.1 share/bash-completion/completions/trimtab \
    share/doc/trimtab/LICENSE share/doc/trimtab/examples/quickstart.yaml; do
    [ -s "$prefix/$file" ] || { echo "$file is not installed" >&2; exit 1; }
done

# The command finds its libraries by its own place.
expect "$("$build/bin/trimtab" --version)" "$(env -u LD_LIBRARY_PATH "$prefix/bin/trimtab" --version)"
for object in "$prefix/bin/trimtab" "$prefix"/lib/*/libtrimtab*.so "$prefix"/lib/libtrimtab*.so; do
    [ -e "$object" ] || continue
    if readelf -d "$object" | grep -E 'R(UN)?PATH' | grep -F "$build"; then
        echo "$object remembers the build folder" >&2
        exit 1
    fi
done

"$cmake" -G Ninja -S "$source/tests/cli/external" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$flags" >"$scratch/log" 2>&1 &&
    "$cmake" --build "$scratch/cmake" >>"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
expect "slots 2" "$("$scratch/cmake/job")"
expect "slots 2" "$("$scratch/cmake/job-train")"

command -v pkg-config >/dev/null || exit 0
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name trimtab.pc)")
export PKG_CONFIG_PATH
libraries=$(pkg-config --variable=libdir trimtab)
for name in trimtab trimtab-train; do
    define=
    [ $name = trimtab ] || define=-DWITH_TRAINER
    # shellcheck disable=SC2046,SC2086
    "$cc" $flags $define -o "$scratch/$name" "$source/tests/cli/external/job.c" \
        $(pkg-config --cflags --libs $name)
    expect "slots 2" "$(LD_LIBRARY_PATH=$libraries "$scratch/$name")"
done

# The example, from where it is installed, as its first lines say.
example=$prefix/share/doc/trimtab/examples/external_job.c
# shellcheck disable=SC2046,SC2086
"$cc" $flags -o "$scratch/external_job" "$example" $(pkg-config --cflags --libs trimtab) -lm
LD_LIBRARY_PATH=$libraries "$scratch/external_job" "$scratch/run" --steps=40 --fault=20 \
    --set=job.tile=16 >"$scratch/out" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
grep -q '^tiles: off, breaker open' "$scratch/out" || { cat "$scratch/out" >&2; exit 1; }
