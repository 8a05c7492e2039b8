#!/bin/sh
# make demo-train: the whole pipeline from scratch, on two cores. Only the configuration differs from a full run.
set -eu
out=demo_train
frames=${DEMO_FRAMES:-320}         # frames of each person
test_frames=${DEMO_TEST_FRAMES:-40} # test frames among them
faces=${DEMO_FACES:-600}           # training faces of the encoder
rm -rf "$out"

# independent stages run in parallel on two cores
stage() { echo "== $(date +%H:%M:%S) $*"; }
background_log=$out/train_decoder.log

stage "synthetic people in the formats of CelebV and WFLW"
python tools/make_synthetic.py celebv --people Rowan=9 Linnea=29 --frames "$frames" --stride 8 --expressions --out-dir "$out/datasets/CelebV" &
celebv=$!
python tools/make_synthetic.py wflw --train-faces "$faces" --test-faces 40 --out-dir "$out/datasets"
wait "$celebv"
sh split_celebv.sh "$out/datasets/CelebV" $((frames - test_frames))

stage "preprocessing"
python preprocess.py --dataset CelebV --src-dir "$out/datasets" --out-dir "$out/datasets/celebv_heatmaps_GT" &
celebv=$!
python preprocess.py --dataset "$out/datasets" --mode train --out-dir "$out/datasets/WFLW_heatmaps"
python preprocess.py --dataset "$out/datasets" --mode test --out-dir "$out/datasets/WFLW_heatmaps"
wait "$celebv"

stage "decoder (log: $background_log), in parallel with shape prior and transformer"
python train_decoder.py --conf config/demo/decoder.yaml >"$background_log" 2>&1 &
decoder=$!
trap 'kill "$decoder" 2>/dev/null || true' EXIT
python train_shape_prior.py --conf config/demo/shape_prior.yaml
python train_transformer.py --conf config/demo/transformer.yaml
stage "encoder"
python train_encoder.py --conf config/demo/encoder.yaml
stage "waiting for the decoder"
wait "$decoder" || { tail -n 3 "$background_log" >&2; exit 1; }
trap - EXIT

runs=$out/tmp.monitor
encoder=$runs/encoder/demo/training_info.yaml
transformer=$runs/transformer/Rowan2Linnea/demo/training_info.yaml
decoder=$runs/decoder/Linnea/demo/training_info.yaml

stage "test of transformer and decoder"
python test_transformer.py "$transformer" -n 4
python test_decoder.py "$decoder" -n 4

stage "reenactment"
python test_reenactment.py \
    --encoder-config "$encoder" \
    --transformer-config "$transformer" --decoder-config "$decoder" \
    --src-celeb-name Rowan --trg-celeb-name Linnea --out-dir "$out/reenactment" \
    --video "$out/reenactment.mp4"

stage "evaluation"
python evaluate.py "$out"/reenactment/Rowan2Linnea/*
stage "done; frames: $out/reenactment/Rowan2Linnea/*/result, video: $out/reenactment.mp4"
