#!/bin/sh
# backup-store.sh STORE FOLDER: a copy of a store in FOLDER/DATE, while runs may be writing to it.
#
# What did not change since the last copy is a hard link to it. The copy has its name once it is
# whole. Not beside `segpipe gc --delete`, `forget` or `compact --replace`: they remove what a commit
# that was just copied needs.
set -eu
store=${1:?usage: backup-store.sh STORE FOLDER}
folder=${2:?usage: backup-store.sh STORE FOLDER}
if ! test -f "$store/segpipe.json"; then
    echo "$store: no store of segpipe: it has no segpipe.json" >&2
    exit 2
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
part=$folder/.part
name=$folder/$(date -u +%Y%m%dT%H%M%SZ)
last=$(find "$folder" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*Z' | sort | tail -n 1)
chunks=$(mktemp)
trap 'rm -f "$chunks"' EXIT

# Files that a run removes meanwhile were its own; no commit needs them (24: some have vanished).
copy() {
    rsync --archive --hard-links ${last:+"--link-dest=$last"} "$@" || test $? -eq 24
}

# The commits first: what they name is there already, and stays. Then everything else, and of the
# published tables only the parts of those commits, after the place that they are published from.
rm -rf "$part"
mkdir "$part"
copy --include='/commits/***' --exclude='*' "$store/" "$part/"
copy --exclude='/commits' --exclude='/leases/*' --exclude='/objects/*' --exclude='/images/*' --exclude='.tmp-*' "$store/" "$part/"
find "$part/commits" -name '*.json' -exec basename {} .json \; |
    awk '{print "objects/" $0 ".parquet"; print "images/" $0 ".parquet"}' >"$chunks"
copy --files-from="$chunks" --ignore-missing-args "$store/" "$part/"
mv "$part" "$name"
echo "$name"
