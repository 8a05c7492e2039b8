#!/bin/sh
# Fetch the published encoder, align network and PCA into the working folder.
# REENACTGAN_WEIGHTS_URL moves the source, for mirrors.
set -eu
here=$(dirname "$0")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" "$here/utils/download.py" converted
