#!/bin/sh
# Install the CUDA extension of nnabla that fits the driver.
#
#   sh setup/gpu.sh [11|12]
set -eu

cuda=${1:-}
if [ -z "$cuda" ]; then
    command -v nvidia-smi >/dev/null || {
        echo "error: no nvidia-smi here, so the CUDA version is unknown; say 'make gpu CUDA=12' or 'make gpu CUDA=11'" >&2
        exit 6
    }
    cuda=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p')
fi
# a driver runs extensions of its own CUDA version and of older ones
case $cuda in
    11) package=nnabla-ext-cuda116 ;;
    1[2-9]) package=nnabla-ext-cuda120 ;;
    *)
        echo "error: CUDA '$cuda': nnabla 1.39.0 has extensions for CUDA 11 (116) and 12 (120)" >&2
        exit 2
        ;;
esac
echo "set-up: CUDA $cuda, so $package==1.39.0"
.venv/bin/python -m pip install --disable-pip-version-check "$package==1.39.0" || {
    echo "error: $package could not be installed; is the package index reachable?" >&2
    exit 6
}
.venv/bin/python -c 'import nnabla_ext.cudnn' || {
    echo "error: the extension does not load; install CUDA's and cuDNN's libraries of that version" >&2
    exit 6
}
echo "set-up: done; the scripts now choose the GPU by themselves (-c auto)"
