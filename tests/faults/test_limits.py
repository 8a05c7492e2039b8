"""Limits of a machine or a container, and libraries that cannot be loaded: one line that says whose fault it is."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import DEMO, ROOT, must_fail, must_run
from utils.libraries import LibraryError, load

from config import load_config
from faces.finder import FaceFinder
from inference.backends import open_backend, open_session
from inference.networks import Trained
from training.series import _tensorboard
from utils import parallel
from utils.errors import ConfigError, ResourceError, describe
from utils.files import atomic_path

MIB = 1 << 20


# Errors of the system


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "takes no changes"),
    ],
)
def test_why_a_file_cannot_be_written(tmp_path, number, words):
    with pytest.raises(ResourceError, match=words) as caught, atomic_path(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert ("disk is full" in str(caught.value)) == (number == errno.ENOSPC)
    assert words in describe(OSError(number, os.strerror(number)))[0]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),  # the parent's, after a fork
        RuntimeError("pthread_create: Resource temporarily unavailable"),
    ],
)
def test_a_limit_of_threads_or_processes(error):
    words, exit_code = describe(error)
    assert exit_code == 6 and "limit of threads and processes" in words and "Traceback" not in words


@pytest.mark.parametrize(
    "use",
    [
        lambda: parallel.require_threads(3),
        FaceFinder,
        lambda: parallel.WorkerPool(str, 2),
        lambda: open_session(Path("x.onnx")),
    ],
)
def test_what_ends_or_hangs_without_threads_is_checked_before(monkeypatch, use):
    def fail(_) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", fail)
    with pytest.raises(ResourceError, match="threads cannot be started; a limit of threads"):
        use()


def test_threads_that_were_tried_are_gone():
    before = threading.active_count()
    parallel.require_threads(20)
    assert threading.active_count() == before


def test_threads_that_cannot_be_started_end_a_script_with_a_line(tmp_path):
    """A limit that also holds for root: of memory, which threads' stacks take."""
    code = "import resource, sys, threading; sys.path.insert(0, sys.argv[1]); from utils.ending import call_main\n"
    code += "def main():\n    resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n"
    code += "    threading.stack_size(200 << 20)\n    stop = threading.Event()\n"
    code += "    for _ in range(9): threading.Thread(target=stop.wait, daemon=True).start()\ncall_main(main)\n"
    (tmp_path / "many.py").write_text(code)
    must_fail(tmp_path, 6, "limit of threads and processes", str(tmp_path / "many.py"), ROOT)


# Libraries


BROKEN = {
    "ImportError": "raise ImportError('libgomp.so.1: cannot open shared object file', name='{name}')",
    "OSError": "raise OSError('libcudart.so.12: wrong ELF class')",
    "ValueError": "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
}


def break_library(folder: Path, name: str, how: str = "ImportError") -> dict[str, str]:
    """An environment in which a library is installed and cannot be loaded."""
    path = folder.joinpath(*name.split("."))
    path.mkdir(parents=True)
    (path / "__init__.py").write_text(BROKEN[how].format(name=name))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("how", BROKEN)
def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch, how):
    break_library(tmp_path, "brokenlib", how)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LibraryError, match="brokenlib cannot be loaded .*pip install brokenlib"):
        load("brokenlib", "pip install brokenlib")
    sys.modules.pop("brokenlib", None)
    words, exit_code = describe(ImportError("DLL load failed", name="cv2"))
    assert exit_code == 2 and "cv2 cannot be loaded (DLL load failed)" in words and "Traceback" not in words


@pytest.mark.parametrize("name", ["onnxruntime", "nnabla.utils.converter.onnx"])
def test_auto_goes_on_without_onnx_runtime(tmp_path, monkeypatch, capsys, name):
    folder = tmp_path / "decoder"
    folder.mkdir()
    (folder / "weights.h5").write_bytes((DEMO / "decoder/weights.h5").read_bytes())
    networks = {"decoder": Trained(load_config("decoder", DEMO / "decoder/training_info.yaml"), folder / "weights.h5")}
    real = load

    def broken(wanted: str, how: str = ""):
        if wanted.startswith(name):
            raise LibraryError(f"{name} cannot be loaded (libgomp.so.1)")
        return real(wanted, how)

    monkeypatch.setattr("inference.onnx_export.load", broken)
    assert open_backend("auto", "cpu", networks, 1).name == "nnabla"
    assert f"note: {name} cannot be loaded" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_backend("onnxruntime", "cpu", networks, 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ImportError", "OSError"])
def test_scripts_with_libraries_that_cannot_be_loaded(data, tmp_path, how):
    decoder = ("--decoder-config", DEMO / "decoder/training_info.yaml")
    decoder += ("--decoder-param-file", DEMO / "decoder/weights.h5", "--landmarks", "-c", "cpu")
    drives = (*decoder, "--src-celeb-name", "Rowan", "--data-dir", data / "datasets/CelebV", "-n", 2)
    broken = break_library(tmp_path / "a", "onnxruntime", how)
    said = must_run(tmp_path, "test_reenactment.py", *drives, **broken)
    assert "onnxruntime cannot be loaded" in said and "backend: nnabla" in said
    must_fail(tmp_path, 2, "onnxruntime", "test_reenactment.py", *drives, "--backend", "onnxruntime", **broken)
    broken = break_library(tmp_path / "b", "mediapipe", how)
    (tmp_path / "me.png").write_bytes((ROOT / "imgs/encoder.png").read_bytes())
    must_fail(tmp_path, 2, "mediapipe cannot be", "test_reenactment.py", *decoder, "--input", "me.png", **broken)
    must_fail(tmp_path, 2, "mediapipe cannot be", "prepare_person.py", "me.png", "--name", "Me", **broken)


@pytest.mark.slow
@pytest.mark.parametrize("name, how", [("cv2", "ImportError"), ("nnabla", "ValueError"), ("PIL", "OSError")])
def test_libraries_that_scripts_import_at_their_top(tmp_path, name, how):
    broken = break_library(tmp_path, name, how)
    for script in ("train_decoder.py", "test_reenactment.py", "app.py"):
        words = must_fail(tmp_path, 2, f"{name} cannot be loaded", script, "--help", **broken)
        assert "pip install -r requirements.txt" in words


def test_every_script_begins_with_what_reports_imports():
    for script in ROOT.glob("*.py"):
        tree = ast.parse(script.read_text())
        imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert [alias.name for alias in imports[1].names] == ["utils.startup"], script.name


def test_mistakes_of_ours_keep_their_traceback(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport utils.startup\nraise ValueError('ours')\n"
    (tmp_path / "x.py").write_text(code)
    found = subprocess.run([sys.executable, str(tmp_path / "x.py")], capture_output=True, text=True)
    assert found.returncode == 1 and "Traceback" in found.stderr and "ValueError: ours" in found.stderr


def test_a_broken_tensorboard_is_done_without(tmp_path, monkeypatch, caplog):
    def broken(name: str, how: str = ""):
        raise LibraryError("tensorboardX cannot be loaded (protobuf)")

    monkeypatch.setattr("training.series.load", broken)
    assert _tensorboard(tmp_path, 0) is False and "no TensorBoard: tensorboardX" in caplog.text
