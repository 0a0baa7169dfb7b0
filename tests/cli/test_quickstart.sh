#!/bin/sh
# The quickstart script on its own: the corpus that it gathers and the command that it ends in. What
# it builds and runs is replaced by stand-ins.
#   test_quickstart.sh SOURCE
set -eu
source=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

command -v git >/dev/null || exit 77
mkdir -p "$scratch/bin" "$scratch/tree/.ci" "$scratch/tree/sub folder"
cd "$scratch/tree"
cp "$source/quickstart" .
printf '#!/bin/sh\n' >.ci/install-packages
printf '#!/bin/sh\nmkdir -p build/quickstart/bin\ncp ../bin/trimtab build/quickstart/bin\n' >../bin/cmake
printf '#!/bin/sh\necho "$@"\n' >../bin/trimtab
printf '#!/bin/sh\necho /usr/include/errno.h\n' >../bin/dpkg
echo kept >"sub folder/kept file.txt"
echo gone >gone.txt
chmod +x .ci/install-packages ../bin/*
git init -q .
git add .
rm gone.txt # deleted from the work tree, still tracked

PATH=$scratch/bin:$PATH ./quickstart --quiet >../out 2>../err || fail "failed: $(cat ../err)"
[ "$(cat ../out)" = "run examples/quickstart.yaml --data build/quickstart/corpus --run-dir runs/quickstart-1 --quiet" ] ||
    fail "$(cat ../out)"
corpus=build/quickstart/corpus
[ -f "$corpus/2-trimtab/sub folder/kept file.txt" ] || fail "a file is missing"
[ ! -e "$corpus/2-trimtab/gone.txt" ] || fail "a deleted file is there"
[ -f "$corpus/3-headers/usr/include/errno.h" ] || fail "a header is missing"
mkdir -p runs/quickstart-1
PATH=$scratch/bin:$PATH ./quickstart >../out 2>../err || fail "failed: $(cat ../err)"
grep -q 'runs/quickstart-2' ../out || fail "a second run must have a folder of its own"

# Without git: every file that is there.
rm -rf .git
PATH=$scratch/bin:$PATH ./quickstart >../out 2>../err || fail "failed: $(cat ../err)"
[ -f "$corpus/2-trimtab/sub folder/kept file.txt" ] || fail "without git a file is missing"
