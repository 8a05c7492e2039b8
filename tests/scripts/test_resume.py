"""Trainings that are interrupted and go on: the same bits as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import COMMON, PATIENCE_S, ROOT, arrays_of, call_script, must_fail, must_run, run_script
from PIL import Image

from config.config_decoder import DecoderConfig
from datasets.images import write_image
from training.resume import find_run
from utils.errors import ResourceError, WeightsError
from utils.files import file_digest, locked, write_yaml
from utils.weights import SUMS_FILE, format_sums

pytestmark = pytest.mark.slow

CELEBV = {**COMMON, "train_dir": "datasets/CelebV", "mode": "train", "trg_celeb_name": "Linnea"}
CONFIGS = {
    "encoder": {
        **COMMON,
        "model": {"planes": 2},
        "train": {"epochs": 2, "batch_size": 3, "lr": 2e-3, "augmentation": True},
        "test": {"batch_size": 2},
    },
    "transformer": {
        **CELEBV,
        "src_celeb_name": "Rowan",
        "model": {"planes": 2},
        "train": {
            "epochs": 2,
            "batch_size": 2,
            "shape_loss": {"lambda": 0},
            "warm_start": {"epochs": 1},
            "average": 0.9,
        },
    },
    "decoder": {
        **CELEBV,
        "model": {"planes": 2},
        "train": {
            "epochs": 2,
            "batch_size": 2,
            "lr_decay_start_at": 1,
            "gan_start_at": 1,
            "feature_loss": {"lambda": 0},
            "augmentation": True,
            "average": 0.9,
        },
    },
}
WHERE, HOW = ("mid-epoch", "epoch boundary"), ("SIGTERM", "SIGKILL")
PER_EPOCH = 2  # 6 faces in batches of 3; 4 frames in batches of 2
FOLDERS = {"encoder": "encoder/run", "transformer": "transformer/Rowan2Linnea/run", "decoder": "decoder/Linnea/run"}


def interrupt(folder: Path, module: str, what: str, where: str, number: int, *args: str) -> subprocess.CompletedProcess:
    """Run a training that is interrupted (tests/drivers/train.py)."""
    args = (module, what, where, number, 0, "--conf", f"{module}.yaml", *args)
    return run_script(folder, "tests/drivers/train.py", *args)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A working folder with one uninterrupted run of each script."""
    folder = tmp_path_factory.mktemp("resume")
    shutil.copytree(data / "datasets", folder / "datasets")
    for path in folder.glob("datasets/CelebV/*/train_98pt.txt"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    for module, config in CONFIGS.items():
        write_yaml(folder / f"{module}.yaml", config)
        must_run(folder, f"train_{module}.py", "--conf", f"{module}.yaml")
    return folder


def set_up(folder: Path, whole: Path) -> Path:
    """A working folder with the same data and configurations."""
    (folder / "datasets").symlink_to(whole / "datasets")
    for module, config in CONFIGS.items():
        write_yaml(folder / f"{module}.yaml", config)
    return folder


@pytest.fixture
def work(whole, tmp_path) -> Path:
    return set_up(tmp_path, whole)


def contents_of(run: Path) -> dict[str, object]:
    """Everything of a run that must be the same: all weights, solver states, running statistics, series, the best."""
    contents: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".h5":
            contents[name] = {key: array.tobytes() for key, array in arrays_of(path).items()}
        elif path.name.endswith(".series.txt") or path.name == "best.yaml":
            contents[name] = path.read_text()
        elif path.name == "state.json":
            state = json.loads(path.read_text())
            contents[name] = {
                key: state[key] for key in ("iteration", "best", "series", "learning_rates", "solver_times")
            }
    return contents


def assert_same(run: Path, other: Path) -> None:
    first, second = contents_of(run), contents_of(other)
    assert sorted(first) == sorted(second)
    for name in first:
        assert first[name] == second[name], name
    assert any(name.endswith("solver_generator.h5") or name.endswith("solver_encoder.h5") for name in first)


def interrupt_and_compare(whole: Path, work: Path, module: str, where: str, how: str) -> None:
    """A run that ends early and goes on must come to what the whole run came to."""
    if where == "mid-epoch":
        result = interrupt(work, module, how, "step", PER_EPOCH + 1)
    elif how == "SIGTERM":
        result = interrupt(work, module, how, "step", PER_EPOCH)
    else:
        result = interrupt(work, module, how, "checkpoint", 1)
    folder = work / "runs" / FOLDERS[module]
    newest = sorted((folder / "checkpoints").iterdir())[-1].name
    if how == "SIGKILL":
        assert result.returncode == -signal.SIGKILL
        assert int(newest) == PER_EPOCH
    else:
        assert result.returncode == 143 and "Traceback" not in result.stderr, result.stderr
        assert f"--resume {folder.relative_to(work)}" in result.stderr
        assert int(newest) == (PER_EPOCH + 1 if where == "mid-epoch" else PER_EPOCH)
        if where == "mid-epoch":  # the stop's own checkpoint is enough
            shutil.rmtree(folder / "checkpoints" / f"{PER_EPOCH:09d}")
    resume = "auto" if how == "SIGTERM" else folder.relative_to(work)
    out = must_run(work, f"train_{module}.py", "--conf", f"{module}.yaml", "--resume", resume)
    assert f"from iteration {int(newest)}" in out
    # both keep three checkpoints; the stop's own are not in the other
    for checkpoint in (folder / "checkpoints").iterdir():
        if int(checkpoint.name) % PER_EPOCH:
            shutil.rmtree(checkpoint)
    other = whole / "runs" / FOLDERS[module]
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    copy = work / "whole"
    shutil.copytree(other, copy)
    for checkpoint in (copy / "checkpoints").iterdir():
        if checkpoint.name not in kept:
            shutil.rmtree(checkpoint)
    assert f"{2 * PER_EPOCH:09d}" in kept
    assert_same(folder, copy)


# a half of the cases each: steps and checkpoints of all modules are written by the same code
RARE = {(module, "mid-epoch", "SIGKILL") for module in ("encoder", "decoder")}
RARE |= {(module, "epoch boundary", "SIGTERM") for module in ("encoder", "decoder")}
RARE |= {("transformer", "mid-epoch", "SIGTERM"), ("transformer", "epoch boundary", "SIGKILL")}


@pytest.mark.parametrize(
    "module, where, how",
    [
        pytest.param(*case, marks=pytest.mark.long if case in RARE else ())
        for case in itertools.product(CONFIGS, WHERE, HOW)
    ],
)
def test_an_interrupted_run_equals_an_uninterrupted_one(whole, work, module, where, how):
    interrupt_and_compare(whole, work, module, where, how)


def test_more_epochs(whole, work):
    """A run of one epoch that is extended to two equals one of two where the schedule is the same."""
    config = {**CONFIGS["transformer"], "train": {**CONFIGS["transformer"]["train"], "epochs": 1}}
    write_yaml(work / "short.yaml", config)
    must_run(work, "train_transformer.py", "--conf", "short.yaml")
    assert "is complete" in must_run(work, "train_transformer.py", "--conf", "short.yaml", "--resume", "auto")
    must_run(work, "train_transformer.py", "--conf", "transformer.yaml", "--resume", "auto")
    assert_same(work / "runs" / FOLDERS["transformer"], whole / "runs" / FOLDERS["transformer"])


@pytest.fixture
def stopped(whole, work) -> Path:
    """A decoder's run that stands in its second epoch."""
    shutil.copytree(whole / "runs/decoder", work / "runs/decoder")
    folder = work / "runs/decoder/Linnea/run"
    shutil.rmtree(folder / f"checkpoints/{2 * PER_EPOCH:09d}")
    return folder


def test_without_a_configuration_the_runs_own_is_taken(whole, work, stopped):
    """From any directory, also if the run and its data were moved."""
    moved = work.rename(work.with_name(f"{work.name}-moved"))
    stopped = (moved / stopped.relative_to(work)).rename(moved / "runs/decoder/Linnea/renamed")
    must_run(Path("/"), "train_decoder.py", "--resume", stopped)
    assert_same_weights(stopped, whole)


def assert_same_weights(run: Path, whole: Path) -> None:
    name = "netG_decoder_2.h5"
    first, second = arrays_of(run / name), arrays_of(whole / "runs/decoder/Linnea/run" / name)
    assert all(np.array_equal(first[key], second[key]) for key in second)


def test_other_settings_and_data_are_refused_with_the_differences(work, stopped):
    config = {**CONFIGS["decoder"], "seed": 1, "model": {"planes": 3}}
    write_yaml(work / "other.yaml", config)
    line = must_fail(work, 2, "cannot be resumed", "train_decoder.py", "--conf", "other.yaml", "--resume", stopped)
    assert "model.planes was 2, is 3" in line and "seed was 42, is 1" in line and "batch_size" not in line
    train = {**CONFIGS["decoder"]["train"], "batch_size": 3}
    write_yaml(work / "other.yaml", {**CONFIGS["decoder"], "mode": "test", "train": train})
    line = must_fail(work, 2, "cannot be resumed", "train_decoder.py", "--conf", "other.yaml", "--resume", stopped)
    assert "train.batch_size was 2, is 3" in line and "data.B.count was 4, is 6" in line
    write_yaml(work / "other.yaml", {**CONFIGS["decoder"], "train": {**CONFIGS["decoder"]["train"], "epochs": 1}})
    must_run(work, "train_decoder.py", "--conf", "other.yaml", "--resume", stopped)  # one epoch is over: complete
    line = must_fail(work, 2, "not a run", "train_decoder.py", "--resume", "nowhere")
    must_fail(work, 2, "is a configuration of the decoder", "train_encoder.py", "--resume", stopped)


def test_a_damaged_checkpoint_is_passed_over(whole, work, stopped):
    good = stopped / f"checkpoints/{PER_EPOCH:09d}"
    bad = stopped / "checkpoints/000000003"
    shutil.copytree(good, bad)
    content = bytearray((bad / "netG_decoder.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "netG_decoder.h5").write_bytes(content)
    out = must_run(work, "train_decoder.py", "--conf", "decoder.yaml", "--resume", stopped)
    assert "000000003/netG_decoder.h5: changed since it was saved" in out and f"from iteration {PER_EPOCH}" in out
    assert not bad.exists()
    assert_same_weights(stopped, whole)
    shutil.rmtree(stopped / "checkpoints")
    must_fail(work, 4, "no complete checkpoint", "train_decoder.py", "--resume", stopped)


def test_a_run_is_entered_by_one_process_only(work, stopped, monkeypatch):
    monkeypatch.setattr("utils.files.LOCK_TIMEOUT_S", 0.2)
    args = ("--conf", "decoder.yaml", "--resume", stopped)
    with locked(stopped), pytest.raises(ResourceError, match="run: another process"):
        call_script(monkeypatch, work, "train_decoder.py", *args)


def make_runs(folder: Path, *names: str) -> dict:
    """Runs of a decoder, saved one after the other, each with a checkpoint."""
    for number, name in enumerate(names):
        checkpoint = folder / "decoder/Linnea" / name / "checkpoints/000000005"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"saved_at": f"2026-01-0{number + 1}"}))
        (checkpoint / SUMS_FILE).write_text(format_sums({"state.json": file_digest(checkpoint / "state.json")}))
        write_yaml(folder / "decoder/Linnea" / name / "training_info.yaml", {"trg_celeb_name": "Linnea"})
    return DecoderConfig(logdir=str(folder), trg_celeb_name="Linnea")


def test_auto_passes_over_what_cannot_be_read_and_says_so(tmp_path, caplog):
    config = make_runs(tmp_path, "old", "new")
    old, new = (tmp_path / "decoder/Linnea" / name for name in ("old", "new"))
    for run in (old, new):  # strays are no matter
        for place in (run.parent, run, run / "checkpoints", run / "checkpoints/000000005"):
            (place / ".DS_Store").write_bytes(b"x")
    assert find_run("auto", config) == new
    (new / "checkpoints/000000005/state.json").write_text("{}")
    assert find_run("auto", config) == old
    assert f"skipped: {new}" in caplog.text
    (old / "checkpoints/000000005/state.json").unlink()
    with pytest.raises(WeightsError, match="no checkpoint of a run.*without --resume"):  # never next to them
        find_run("auto", config)
    said = caplog.text
    assert str(old) in said and str(new) in said
    for run in (old, new):
        shutil.rmtree(run / "checkpoints")  # ended before the first one
    assert find_run("auto", config) is None


def test_auto_without_a_run_begins_one_and_keep_removes_checkpoints(work):
    out = must_run(work, "train_decoder.py", "--conf", "decoder.yaml", "--resume", "--keep", 1)
    assert "no run with a checkpoint exists" in out
    folder = work / "runs/decoder/Linnea/run"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"{2 * PER_EPOCH:09d}"]
    assert len(list(folder.glob("netG_decoder_*.h5"))) == 2  # weights stay


def test_dry_run_writes_nothing(work):
    for module in CONFIGS:
        out = must_run(work, f"train_{module}.py", "--conf", f"{module}.yaml", "--dry-run")
        assert f"iterations: {PER_EPOCH} per epoch, 2 epochs, {2 * PER_EPOCH} in total" in out
        assert "folder: runs/" in out and "GiB" in out and "parameters: " in out
    assert not (work / "runs").exists()
    write_yaml(work / "wrong.yaml", {**CONFIGS["transformer"], "train": {"batch_size": 3}})
    must_fail(work, 4, "Align_40000.h5", "train_transformer.py", "--conf", "wrong.yaml", "--dry-run")
    must_fail(work, 2, "requires a GPU", "train_decoder.py", "--conf", "decoder.yaml", "-t", "half", "-c", "cpu")


def test_interrupted_twice(work):
    """The first Ctrl-C asks, the second stops at once; the last checkpoint is good."""
    config = {**CONFIGS["decoder"], "train": {**CONFIGS["decoder"]["train"], "epochs": 500}}
    write_yaml(work / "long.yaml", config)
    command = [sys.executable, str(ROOT / "train_decoder.py"), "--conf", "long.yaml"]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = work / "runs/decoder/Linnea/run"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and len(list(folder.glob("checkpoints/0*"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "with a checkpoint" in errors and "stopped at iteration" in errors
    newest = sorted(folder.glob("checkpoints/0*"))[-1]
    result = interrupt(work, "decoder", "SIGUSR1", "step", 1, "--conf", "long.yaml", "--resume", str(folder))
    assert result.returncode == 143
    assert int(sorted(folder.glob("checkpoints/0*"))[-1].name) == int(newest.name) + 1
    result = interrupt(work, "decoder", "SIGINT twice", "step", 1, "--conf", "long.yaml", "--resume", str(folder))
    assert result.returncode == 130 and "error: interrupted" in result.stderr and "Traceback" not in result.stderr
    assert int(sorted(folder.glob("checkpoints/0*"))[-1].name) == int(newest.name) + 1  # none for the second
    write_yaml(
        work / "long.yaml", {**config, "train": {**config["train"], "epochs": int(newest.name) // PER_EPOCH + 2}}
    )


def test_a_number_that_is_not_finite_names_the_last_good_checkpoint(work, stopped):
    state = stopped / "checkpoints"
    train = {**CONFIGS["decoder"]["train"], "lr": 1e30, "gan_start_at": 0}
    config = {**CONFIGS["decoder"], "experiment_name": "wild", "train": train}
    write_yaml(work / "wild.yaml", config)
    line = must_fail(work, 5, "lower train.lr", "train_decoder.py", "--conf", "wild.yaml")
    assert "loss_" in line and "at iteration " in line and "there is no checkpoint" in line
    assert list(state.iterdir())


def test_a_disk_that_is_full(work, stopped):
    before = contents_of(stopped)
    command = f"ulimit -f 60; exec {sys.executable} {ROOT}/train_decoder.py --conf decoder.yaml --resume {stopped}"
    result = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, timeout=PATIENCE_S)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert result.returncode == 6 and len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    after = contents_of(stopped)
    assert {name for name in before if name.endswith(".h5")} <= set(after)
    assert all(after[name] == before[name] for name in before if "checkpoints" in name)


def test_too_little_room_is_said_before(work):
    train = {**CONFIGS["decoder"]["train"], "epochs": 10**6}
    write_yaml(work / "huge.yaml", {**CONFIGS["decoder"], "train": train, "monitor": {"save_interval": 1}})
    line = must_fail(work, 6, "needed for weights and checkpoints", "train_decoder.py", "--conf", "huge.yaml")
    assert "save_interval" in line and not (work / "runs").exists()


def test_a_data_folder_that_is_lost(whole, work):
    own_data(whole, work)
    result = interrupt(work, "decoder", "lost data", "checkpoint", 1)
    assert result.returncode == 6, result.stderr
    assert "does not exist" in result.stderr and "Traceback" not in result.stderr
    (work / "gone").rename(work / "datasets")
    must_run(work, "train_decoder.py", "--conf", "decoder.yaml", "--resume", "auto")


def own_data(whole: Path, work: Path) -> Path:
    """Copy the data to a working folder; return the folder of the target's images."""
    (work / "datasets").unlink()
    shutil.copytree(whole / "datasets", work / "datasets")
    return work / "datasets/CelebV/Linnea/Image"


def change_a_byte(path: Path) -> None:
    """Change an image, but not its size."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def invert(path: Path) -> None:
    write_image(path, 255 - np.asarray(Image.open(path)))


@pytest.mark.parametrize("change, which", [(invert, "*"), (change_a_byte, "000002.jpg"), (change_a_byte, "000013.jpg")])
def test_exchanged_pictures_are_noticed(whole, work, stopped, change, which):
    for path in own_data(whole, work).glob(which):
        change(path)
    line = must_fail(work, 2, "data.B.images was", "train_decoder.py", "--conf", "decoder.yaml", "--resume", stopped)
    assert "cannot be resumed with other settings or data" in line


def test_npz_files_of_other_pictures_are_refused(whole, work, stopped):
    pictures = own_data(whole, work)
    npz = work / "datasets/celebv_heatmaps_GT"
    conf = {**CONFIGS["decoder"], "ref_dir": str(npz)}
    write_yaml(work / "npz.yaml", conf)
    must_run(work, "train_decoder.py", "--conf", "npz.yaml", "--resume", stopped)  # the same training, prepared
    change_a_byte(pictures / "000002.jpg")
    write_yaml(work / "new.yaml", {**conf, "experiment_name": "new"})
    must_fail(work, 3, "Linnea was prepared from other images", "train_decoder.py", "--conf", "new.yaml")
    out = must_run(work, "preprocess.py", "--dataset", "CelebV", "--celeb-name-list", "Linnea", "--out-dir", npz)
    assert "the images have changed" in out
    must_run(work, "train_decoder.py", "--conf", "new.yaml")
    shutil.rmtree(pictures)  # all that is left of them are the npz files
    write_yaml(work / "third.yaml", {**conf, "experiment_name": "third"})
    must_run(work, "train_decoder.py", "--conf", "third.yaml")
