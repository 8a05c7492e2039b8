#!/bin/sh
# Split the frames of each person: the first NUM_TRAIN for training, the others for testing. A person is a folder in
# ROOT with all_98pt.txt. Writes train_98pt.txt and test_98pt.txt beside it; images are not moved.
# Nothing is written unless every person has more than NUM_TRAIN images.
#
#   sh split_celebv.sh ROOT [NUM_TRAIN=30000]
set -eu
LC_ALL=C # file names may be in any encoding
export LC_ALL

fail() { # exit code, message
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

lines_of() { # lines of a list that are not empty, with any line ending
    tr '\r' '\n' <"$1" | grep '[^[:space:]]' || true
}

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    fail 2 "usage: sh split_celebv.sh ROOT [NUM_TRAIN=30000]"
fi
case $1 in
    /*) root=$1 ;;
    *) root=./$1 ;; # may begin with a hyphen
esac
num_train=${2:-30000}
case $num_train in
    '' | 0* | *[!0-9]* | ?????????*) fail 2 "NUM_TRAIN must be an integer from 1 to 99999999, not '$num_train'" ;;
esac
[ -d "$root" ] || fail 3 "$1: no such folder; unpack CelebV first"

people=0
for folder in "$root"/*/; do
    folder=${folder%/}
    list=$folder/all_98pt.txt
    [ -f "$list" ] || continue
    people=$((people + 1))
    total=$(lines_of "$list" | wc -l)
    if [ "$total" -le "$num_train" ]; then
        fail 3 "$list: $((total)) images are too few for $num_train training images; pass a smaller NUM_TRAIN"
    fi
    [ -w "$folder" ] || fail 6 "$folder: not writable; change its permissions"
done
[ "$people" -gt 0 ] || fail 3 "$1: no person (a folder with Image/ and all_98pt.txt); unpack CelebV into it"

for folder in "$root"/*/; do
    folder=${folder%/}
    if [ ! -f "$folder/all_98pt.txt" ]; then
        printf '%s\n' "$folder: skipped, no all_98pt.txt"
        continue
    fi
    new=$folder/.split.$$
    trap 'rm -f "$new".all "$new".train "$new".test' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    {
        lines_of "$folder/all_98pt.txt" >"$new.all" &&
            head -n "$num_train" "$new.all" >"$new.train" &&
            tail -n "+$((num_train + 1))" "$new.all" >"$new.test" &&
            rm "$new.all"
    } || fail 6 "$folder: the lists cannot be written; is the disk full?"
    rm -f "$folder/test_98pt.txt" # no test list is better than one of another split
    mv "$new.train" "$folder/train_98pt.txt"
    mv "$new.test" "$folder/test_98pt.txt"
    printf '%s\n' "$folder: $num_train for training, $(grep -c . "$folder/test_98pt.txt") for testing"
done
