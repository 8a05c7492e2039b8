#!/bin/sh
# Split each person's all_98pt.txt into train_98pt.txt (the first NUM_TRAIN lines) and test_98pt.txt (the rest).
# Nothing is written unless everyone has more than NUM_TRAIN images.
#
#   sh split_celebv.sh ROOT [NUM_TRAIN=30000]
set -eu

fail() { # exit code, message
    echo "error: $2" >&2
    exit "$1"
}

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    fail 2 "usage: sh split_celebv.sh ROOT [NUM_TRAIN=30000]"
fi
root=$1
num_train=${2:-30000}
case $num_train in
    '' | *[!0-9]* | 0) fail 2 "NUM_TRAIN must be a whole number above 0, not '$num_train'" ;;
esac
[ -d "$root" ] || fail 3 "$root: no such folder; unpack CelebV first"

people=0
for list in "$root"/*/all_98pt.txt; do
    [ -f "$list" ] || continue
    people=$((people + 1))
    total=$(grep -c . "$list" || true)
    if [ "$total" -le "$num_train" ]; then
        fail 3 "$list: $total images leave none for the test after $num_train for training; pass a smaller NUM_TRAIN"
    fi
done
[ "$people" -gt 0 ] || fail 3 "$root: no person there (a folder with all_98pt.txt)"

for list in "$root"/*/all_98pt.txt; do
    folder=$(dirname "$list")
    trap 'rm -f "$folder/.train_98pt.$$" "$folder/.test_98pt.$$"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    grep . "$list" | head -n "$num_train" >"$folder/.train_98pt.$$"
    grep . "$list" | tail -n "+$((num_train + 1))" >"$folder/.test_98pt.$$"
    mv "$folder/.train_98pt.$$" "$folder/train_98pt.txt"
    mv "$folder/.test_98pt.$$" "$folder/test_98pt.txt"
    echo "$folder: $num_train for training, $(grep -c . "$folder/test_98pt.txt") for test"
done
