#!/bin/sh
# make demo: reenact a synthetic person with the weights in demo/weights.
# make demo VIDEO=me.mp4: drive the synthetic person with a video (or VIDEO=webcam).
set -eu
out=demo_result
if [ -n "${VIDEO:-}" ]; then
    echo "== source $VIDEO, target Linnea (synthetic)"
    python test_reenactment.py \
        --decoder-config demo/weights/decoder/training_info.yaml \
        --decoder-param-file demo/weights/decoder/weights.h5 \
        --landmarks --input="$VIDEO" --src-celeb-name source --layout side-by-side \
        --out-dir "$out/mine" --video "$out/mine.mp4"
    exit
fi
frames=${DEMO_FRAMES:-420}          # frames of each person
test_frames=${DEMO_TEST_FRAMES:-100} # test frames among them
rm -rf "$out/CelebV" "$out/reenactment" "$out/reenactment.mp4" # keep results of VIDEO=...

echo "== two synthetic people: source Rowan, target Linnea"
python tools/make_synthetic.py celebv --people Rowan=9 Linnea=29 --frames "$frames" --seed 7 --stride 2 --expressions --out-dir "$out/CelebV"
sh split_celebv.sh "$out/CelebV" $((frames - test_frames))

echo "== reenactment"
python test_reenactment.py \
    --encoder-config demo/weights/encoder/training_info.yaml \
    --transformer-config demo/weights/transformer/training_info.yaml \
    --decoder-config demo/weights/decoder/training_info.yaml \
    --encoder-param-file demo/weights/encoder/weights.h5 \
    --transformer-param-file demo/weights/transformer/weights.h5 \
    --decoder-param-file demo/weights/decoder/weights.h5 \
    --src-celeb-name Rowan --trg-celeb-name Linnea \
    --data-dir "$out/CelebV" --out-dir "$out/reenactment" \
    --video "$out/reenactment.mp4"

echo "== evaluation"
python evaluate.py "$out"/reenactment/Rowan2Linnea/*
echo "frames: $out/reenactment/Rowan2Linnea/*/result, video: $out/reenactment.mp4"
