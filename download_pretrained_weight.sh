#!/bin/sh
# Fetch the published weights of all three modules, with their training_info.yaml, into pretrained_weights/.
# REENACTGAN_WEIGHTS_URL moves the source, for mirrors.
set -eu
here=$(dirname "$0")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" "$here/utils/download.py" pretrained
