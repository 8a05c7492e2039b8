#!/bin/sh
# Create .venv with Python 3.10, the newest version with wheels of nnabla, and install the pinned requirements.
# If Python 3.10 is missing, uv (from PyPI, in a separate environment) downloads it.
set -eu

is_310() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 10))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3.10 python3 python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10*/bin/python; do
        if is_310 "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

if [ -x .venv/bin/python ] && is_310 .venv/bin/python; then
    echo "setup: .venv exists"
else
    rm -rf .venv
    python=$(find_python)
    if [ -n "$python" ]; then
        echo "setup: .venv from $python"
        "$python" -m venv .venv
    else
        echo "setup: downloading Python 3.10 with uv"
        base=$(command -v python3 || command -v python) || {
            echo "error: Python 3 is required; install python3" >&2
            exit 6
        }
        [ -x .uv/bin/uv ] || { "$base" -m venv .uv && .uv/bin/python -m pip install --quiet uv==0.13.9; } || {
            echo "error: uv could not be installed; install Python 3.10 yourself (pyenv, conda, your system)" >&2
            exit 6
        }
        .uv/bin/uv venv --quiet --seed --python 3.10 .venv || {
            echo "error: uv could not fetch Python 3.10; install it yourself (pyenv, conda, your system)" >&2
            exit 6
        }
    fi
fi
echo "setup: installing requirements"
pip() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
{ pip -r requirements.txt -r requirements-dev.txt && pip --no-deps -r requirements-nodeps.txt; } || {
    echo "error: the requirements could not be installed; is the package index reachable?" >&2
    exit 6
}
