#!/bin/sh
# Fetch the published encoder, align network and PCA into the working folder.
# REENACTGAN_WEIGHTS_URL moves the source, for mirrors.
set -eu
here=$(dirname "$0")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" "$here/utils/download.py" \
    ReenactGAN_encoder_pretrained_weights.h5=ReenactGAN_encoder_pretrained_weights.h5 \
    Align_40000.h5=Align_40000.h5 \
    PCA_weights.h5=PCA_weights.h5
