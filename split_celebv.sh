#!/bin/sh
# Split each person's frames: the first NUM_TRAIN for training, the rest for test. A person is a folder in ROOT with
# all_98pt.txt, or with all_frames.txt as prepare_person.py writes it. Beside it appear train_98pt.txt and
# test_98pt.txt (train_frames.txt and test_frames.txt). Images stay where they are.
# Nothing is written unless everyone has more than NUM_TRAIN images.
#
#   sh split_celebv.sh ROOT [NUM_TRAIN=30000]
set -eu
LC_ALL=C # names are bytes: in another encoding than the shell's they must not make a list a binary file
export LC_ALL

fail() { # exit code, message
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

list_of() { # folder: the kind of list that it has, if any
    for kind in 98pt frames; do
        if [ -f "$1/all_$kind.txt" ]; then
            echo "$kind"
            return
        fi
    done
}

lines_of() { # list: its lines that are not empty, whatever ends them
    tr '\r' '\n' <"$1" | grep '[^[:space:]]' || true
}

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    fail 2 "usage: sh split_celebv.sh ROOT [NUM_TRAIN=30000]"
fi
case $1 in
    /*) root=$1 ;;
    *) root=./$1 ;; # it may begin with a hyphen
esac
num_train=${2:-30000}
case $num_train in
    *[!0-9]*) fail 2 "NUM_TRAIN must be a whole number above 0, not '$num_train'" ;;
esac
digits=$num_train
while [ "${num_train#0}" != "$num_train" ]; do # 08 is 8
    num_train=${num_train#0}
done
if [ -z "$num_train" ] || [ ${#num_train} -gt 8 ]; then
    fail 2 "NUM_TRAIN must be a whole number from 1 to 99999999, not '$digits'"
fi
[ -d "$root" ] || fail 3 "$1: no such folder; unpack CelebV first"

people=0
for folder in "$root"/*/; do
    folder=${folder%/}
    kind=$(list_of "$folder")
    [ -n "$kind" ] || continue
    people=$((people + 1))
    list=$folder/all_$kind.txt
    total=$(lines_of "$list" | wc -l)
    if [ "$total" -le "$num_train" ]; then
        fail 3 "$list: $((total)) images leave none for the test after $num_train for training; pass a smaller NUM_TRAIN"
    fi
    [ -w "$folder" ] || fail 6 "$folder: cannot be written to; change its permissions"
done
[ "$people" -gt 0 ] || fail 3 "$1: no person there (a folder with all_98pt.txt)"

for folder in "$root"/*/; do
    folder=${folder%/}
    kind=$(list_of "$folder")
    if [ -z "$kind" ]; then
        printf '%s\n' "$folder: left out, it has no all_98pt.txt"
        continue
    fi
    train=$folder/train_$kind.txt
    test=$folder/test_$kind.txt
    rm -f "$folder"/.split_*.tmp # of a run that was killed
    new_all=$folder/.split_all.$$.tmp
    new_train=$folder/.split_train.$$.tmp
    new_test=$folder/.split_test.$$.tmp
    trap 'rm -f "$new_all" "$new_train" "$new_test"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    {
        lines_of "$folder/all_$kind.txt" >"$new_all" &&
            head -n "$num_train" "$new_all" >"$new_train" &&
            tail -n "+$((num_train + 1))" "$new_all" >"$new_test" &&
            rm "$new_all"
    } || fail 6 "$folder: the lists cannot be written; is the disk full?"
    # between the two names there is no test list, rather than one of another split
    rm -f "$test"
    mv "$new_train" "$train"
    mv "$new_test" "$test"
    printf '%s\n' "$folder: $(grep -c . "$train") for training in train_$kind.txt, $(grep -c . "$test") for test in test_$kind.txt"
done
