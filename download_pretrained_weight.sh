#!/bin/sh
# Fetch the published weights of all three modules, with their training_info.yaml, into pretrained_weights/.
# REENACTGAN_WEIGHTS_URL moves the source, for mirrors.
set -eu
here=$(dirname "$0")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" "$here/utils/download.py" \
    encoder/weights.h5=pretrained_weights/encoder/weights.h5 \
    encoder/training_info.yaml=pretrained_weights/encoder/training_info.yaml \
    transformer/weights.h5=pretrained_weights/transformer/Kathleen2Donald_Trump/weights.h5 \
    transformer/training_info.yaml=pretrained_weights/transformer/Kathleen2Donald_Trump/training_info.yaml \
    decoder/weights.h5=pretrained_weights/decoder/Donald_Trump/weights.h5 \
    decoder/training_info.yaml=pretrained_weights/decoder/Donald_Trump/training_info.yaml
