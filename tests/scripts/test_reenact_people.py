"""reenact_people.py: two videos in, a reenactment out; stopped and started again."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import nnabla as nn
import pytest
import yaml
from helpers import PATIENCE_S, ROOT, ffmpeg, frames_in_file, must_fail, write_frames

import reenact_people
from config import complete_config
from config.runs import INFO_FILE
from datasets.images import read_image
from models import networks
from people.recipe import config_of, total_iterations, training_steps
from people.targets import find_targets
from people.work import QUALITIES, Work
from synthetic.moving import moving_head
from utils.errors import ConfigError, DataError, Stopped, UserError
from utils.files import write_yaml
from utils.steps import Step, StepFailed
from utils.video import open_film

pytestmark = pytest.mark.slow

ITERATIONS = 60
NUMBERS = " ".join(["1"] * 196)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    a, b = ([frame for frame, _ in moving_head(person, 18, seed=0)] for person in ("Rowan=9", "Linnea=29"))
    for name, frames in (("a.mp4", a[:12]), ("b b.mp4", b), ("long.mp4", b + b[::-1] + b), ("few.mp4", b[:12])):
        write_frames(folder / name, frames)
    write_frames(folder / "grey.mp4", [next(moving_head("Rowan=9", 1, 0))[0] * 0 + 110] * 41)
    return folder


def begin(folder: Path, films: Path, iterations: int, *more: str, **options: object) -> subprocess.Popen:
    videos = ("--source", str(films / "a.mp4"), "--target", str(films / "b b.mp4"), "--out", "o.mp4")
    quality = () if "--quality" in more else ("--quality", "draft")
    driver = str(ROOT / "tests/drivers/small.py")
    command = [sys.executable, driver, "reenact_people", str(iterations), *videos, *quality, *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def limit_file_size() -> None:
    """End writes as a full disk does: after some bytes, with an error of the system."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.long
def test_from_two_videos_to_a_page_with_a_full_disk_and_a_stop_in_between(films, tmp_path):
    process = begin(tmp_path, films, ITERATIONS, preexec_fn=limit_file_size)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6 and "Traceback" not in out, out
    assert "repeat the command" in out
    process = begin(tmp_path, films, ITERATIONS)  # there is room again
    deadline = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob("o.work/runs/decoder/b_b/decoder-draft/checkpoints/*/state.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143 and "the same command resumes" in out and "Traceback" not in out, out
    stopped_at = max(int(path.name) for path in tmp_path.glob("o.work/runs/decoder/b_b/decoder-draft/checkpoints/*"))
    process = begin(tmp_path, films, ITERATIONS)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    assert "== prepare" not in out and f"from iteration {stopped_at}" in out and f"{stopped_at} done" in out
    assert frames_in_file(tmp_path / "o.mp4") == 12 and open_film(tmp_path / "o.mp4").size == (512, 256)
    assert not list(tmp_path.rglob(".*unfinished*"))
    page = (tmp_path / "o.work/index.html").read_text()
    assert "PSNR" in page and "mouth opening" in page and 'src="../o.mp4"' in page
    for address in ("prepared/b_b/b_b/contact_sheet.png", "runs/decoder/b_b/decoder-draft/index.html"):
        assert address in page and (tmp_path / "o.work" / address).exists()
    # a third time: nothing is done again
    before = os.stat(tmp_path / "o.mp4").st_mtime_ns
    process = begin(tmp_path, films, ITERATIONS)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "reenact:" not in out and "== train" not in out, out
    assert os.stat(tmp_path / "o.mp4").st_mtime_ns == before


def page_of(folder: Path) -> str:
    """Check what two videos became; return the page."""
    work = folder / "o.work"
    assert frames_in_file(folder / "o.mp4") == 12 and open_film(folder / "o.mp4").size == (512, 256)
    page = (work / "index.html").read_text()
    assert "PSNR" in page and "mouth opening" in page and 'src="../o.mp4"' in page
    assert "prepared/b_b/b_b/contact_sheet.png" in page and (work / "prepared/b_b/b_b/contact_sheet.png").exists()
    assert "held-out.png" in page and read_image(work / "held-out.png").shape == (2 * 192, 3 * 192, 3)
    assert not list(folder.rglob(".*unfinished*"))
    return page


def test_from_two_videos_to_a_page_at_once(films, tmp_path):
    process = begin(tmp_path, films, 2, "--quality", "instant")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    assert "choose a film" in out.split("== prepare")[0] and "train the" not in out
    assert "== prepare b_b" in out and "== prepare a" not in out and "== train" not in out
    (path,) = tmp_path.glob("o.work/result/*/*/reenactment.yaml")
    record = yaml.safe_load(path.read_text())
    assert record["boundaries"] == "landmarks" and record["transfer"] == "geometry"
    assert record["target"] == "b_b" and record["film"] == "../../../film.npz"
    page_of(tmp_path)
    scores = json.loads(next(tmp_path.glob("o.work/held-out/*/*/scores.json")).read_text())
    # the decoder in demo/weights was not trained on the target
    psnr = {score["of"]: score["value"] for score in scores if score["name"] == "PSNR"}
    assert psnr["result"] > psnr["result without the film"] + 5
    args = ("--source", films / "b b.mp4", "--target", films / "long.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 2, "contains work on another source", "reenact_people.py", *args)
    must_fail(tmp_path, 2, "add --quality draft", "reenact_people.py", *args, "--encoder")


@pytest.mark.long
def test_the_papers_networks_between_them_side_by_side(films, tmp_path):
    process = begin(tmp_path, films, 2, "--encoder", "--transformer")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    words, work = out.split("== prepare")[0], tmp_path / "o.work"
    assert all(f"train the {name}" in words for name in ("encoder", "shape prior", "transformer", "decoder")), words
    record = yaml.safe_load(next(work.glob("result/*/*/reenactment.yaml")).read_text())
    assert record["boundaries"] == "encoder" and record["transfer"] == "transformer"
    page = page_of(tmp_path)
    assert "encoder: validation" in page and "training of the transformer" in page
    for address in ("prepared/a/a/contact_sheet.png", "runs/decoder/b_b/decoder-draft/index.html"):
        assert address in page and (work / address).exists()
    _, found = find_targets([work / "runs"]).values()  # the page of app.py can show it, by its film
    assert found.person == "b_b" and found.held_out["PSNR"] > 5 and found.film().person == "b_b", found


class Stubs:
    """Runs of reenact_people.py whose steps only leave what real ones leave; those are run for real above."""

    def __init__(self, films: Path):
        self.films, self.done, self.error = films, [], None

    def make(self, step: Step) -> None:
        """Leave what a step leaves."""
        args = dict(zip(step.args, step.args[1:]))
        if step.script == "prepare_person.py":
            folder = step.args[4] / step.args[2]
            (folder / "Image").mkdir(parents=True)
            (folder / "all_98pt.txt").write_text("".join(f"{NUMBERS} {k:06d}.jpg\n" for k in range(60)))
        elif step.script == "split_celebv.sh":
            for part in ("train", "test"):
                (step.args[0] / step.args[0].name / f"{part}_98pt.txt").write_text(f"{NUMBERS} 000000.jpg\n")
        elif step.script == "train_decoder.py":
            if self.error is not None:
                error, self.error = self.error, None
                raise error
            conf = yaml.safe_load(args["--conf"].read_text())
            run = Path(conf["logdir"]) / "decoder" / conf["trg_celeb_name"] / conf["experiment_name"]
            (run / "checkpoints" / f"{conf['train']['epochs'] * 13:09d}").mkdir(parents=True)  # 51 frames, 4 at once
            write_yaml(run / INFO_FILE, {})
            (run / "SHA256SUMS").write_text("weights")
        elif step.script == "test_reenactment.py":
            folder = args["--out-dir"] / "a2b/run"
            folder.mkdir(parents=True)
            write_yaml(folder / "reenactment.yaml", {})
            if "--video" in args:
                args["--video"].write_text("mute" if "--no-audio" in step.args else "with sound")
        elif step.script == "evaluate.py":
            (step.args[0] / "scores.json").write_text("[]")

    def run(self, *steps: Step) -> None:
        for step in steps:
            self.args = step.args
            self.make(step)
            self.done.append(step.name)

    def __call__(self, monkeypatch, *args: object) -> list[str]:
        """Run the script; return the names of the steps that were done."""
        self.done = []
        monkeypatch.setattr(sys, "argv", ["reenact_people.py", *map(str, args)])
        reenact_people.main()
        return self.done


@pytest.fixture
def stubs(films, tmp_path, monkeypatch) -> Stubs:
    found = Stubs(films)
    monkeypatch.chdir(tmp_path)
    for module in ("reenact_people", "people.steps"):
        monkeypatch.setattr(f"{module}.run_steps", found.run)
    monkeypatch.setattr("reenact_people.write_page", lambda *_: "page")
    return found


MEASURED = ["reenact: result", "measure: result"]


@pytest.mark.parametrize(
    "error, words",
    [
        (StepFailed("train the decoder", 6), "repeat the command"),
        (Stopped("stopped; the same command resumes", 143), "the same command resumes"),
    ],
)
def test_steps_that_are_done_are_not_done_again_after_an_error(films, stubs, monkeypatch, error, words):
    videos = ("--source", films / "a.mp4", "--target", films / "long.mp4", "--out", "o.mp4", "--quality", "draft")
    stubs.error = error
    with pytest.raises(type(error), match=words) as caught:
        stubs(monkeypatch, *videos)
    assert caught.value.exit_code == error.exit_code and not Path("o.mp4").exists()
    assert stubs.done == ["prepare long", "split long"]
    after = ["train the decoder", "reenact: held-out", "measure: held-out", *MEASURED]
    assert stubs(monkeypatch, *videos) == after and Path("o.mp4").read_text() == "with sound"
    assert stubs(monkeypatch, *videos) == []


@pytest.mark.parametrize(
    "change", [("--no-audio",), ("--motion", "lips"), ("--strength", 0.5), ("--size", 256)], ids=lambda flags: flags[0]
)
def test_a_result_is_made_anew_if_a_choice_differs(films, stubs, monkeypatch, change):
    videos = ("--source", films / "a.mp4", "--target", films / "long.mp4", "--out", "o.mp4", "--quality", "draft")
    stubs(monkeypatch, *videos, *change)
    said = Path("o.mp4").read_text()
    assert stubs(monkeypatch, *videos, *change) == [] and stubs(monkeypatch, *videos) == MEASURED
    assert (Path("o.mp4").read_text() != said) == (change == ("--no-audio",))
    assert stubs(monkeypatch, *videos, *change) == MEASURED and Path("o.mp4").read_text() == said


def test_a_result_is_made_anew_with_other_weights_and_kept_when_everything_moves(films, stubs, monkeypatch):
    videos = ("--source", films / "a.mp4", "--target", films / "long.mp4", "--out", "o.mp4")
    stubs(monkeypatch, *videos, "--quality", "draft")
    Path("new").mkdir()
    for name in ("o.work", "o.mp4"):
        Path(name).rename(f"new/{name}")
    assert stubs(monkeypatch, *videos[:5], "new/o.mp4") == []  # also of the recorded quality
    Path("new/o.work/runs/decoder/long/decoder-draft/SHA256SUMS").write_text("others")
    assert stubs(monkeypatch, *videos[:5], "new/o.mp4") == ["reenact: held-out", "measure: held-out", *MEASURED]


def test_a_person_keeps_its_name_and_each_quality_has_its_own_training(films, stubs, monkeypatch):
    learn = ("--work-dir", "w", "--target", films / "long.mp4")
    with pytest.raises(DataError, match="25 frames; at least 40"):
        stubs(monkeypatch, *learn, "--part", 0, 1)
    monkeypatch.setattr("people.steps.MAX_FRAMES", 50)  # of the part, not of all 60
    part = ("--part", 0.25, 2, "--face", 2)
    assert stubs(monkeypatch, *learn, *part, "--name", "runs", "--quality", "draft", "--look") == ["prepare runs"]
    assert stubs.args[-7:] == ("--every", 1, "--part", 0.25, 2.0, "--face", 2)
    with pytest.raises(ConfigError, match="--name Me: w contains runs"):
        stubs(monkeypatch, *learn, "--name", "Me")
    with pytest.raises(ConfigError, match="grey.mp4: w contains work on another target"):
        stubs(monkeypatch, "--work-dir", "w", "--target", films / "grey.mp4")
    monkeypatch.setattr("reenact_people.measure_held_out", lambda work: work.folder)
    stubs(monkeypatch, "--work-dir", "w", "--quality", "good")
    assert stubs.done == ["split runs", "train the decoder"]
    config = yaml.safe_load(Path("w/decoder.yaml").read_text())
    assert config["model"]["planes"] == QUALITIES["good"].planes
    assert stubs(monkeypatch, "--work-dir", "w") == []  # as before
    assert stubs(monkeypatch, "--work-dir", "w", "--quality", "draft") == ["train the decoder"]
    assert [stubs(monkeypatch, "--work-dir", "w", "--quality", quality) for quality in ("good", "draft")] == [[], []]
    assert sorted(path.name for path in Path("w/runs/decoder/runs").iterdir()) == ["decoder-draft", "decoder-good"]
    Path("copy").mkdir()  # the same video under another name
    (Path("copy") / "renamed.mp4").write_bytes((films / "long.mp4").read_bytes())
    assert stubs(monkeypatch, "--work-dir", "w", "--target", "copy/renamed.mp4") == []


def test_an_error_before_anything_is_prepared_leaves_nothing_behind(films, stubs, monkeypatch):
    def fail(*_: Step) -> None:
        raise StepFailed("prepare long", 3)

    monkeypatch.setattr("people.steps.run_steps", fail)
    for target in (films / "long.mp4", films / "few.mp4"):
        with pytest.raises(UserError):
            stubs(monkeypatch, "--work-dir", "w", "--target", target)
    with pytest.raises(ConfigError, match="contains no person"):
        stubs(monkeypatch, "--work-dir", "w")
    assert not Path("w").exists()


def test_a_training_killed_before_its_first_checkpoint_begins_anew_under_its_name(tmp_path):
    work = Work(tmp_path, "a", "b", QUALITIES["draft"], ("decoder",), 1)
    run = work.run("decoder")
    run.mkdir(parents=True)
    (run / "training_info.yaml").write_text("module: decoder\n")
    (step,) = training_steps(work, "decoder", {"b": 50})
    assert step.args == ("--conf", work.conf("decoder")) and not run.exists()
    (run / "checkpoints/000000010").mkdir(parents=True)
    (step,) = training_steps(work, "decoder", {"b": 50})
    assert step.args == ("--conf", work.conf("decoder"), "--resume", run) and run.exists()


def test_the_encoder_learns_whom_it_will_see(tmp_path):
    work = Work(tmp_path, "a", "b", QUALITIES["draft"], ("decoder", "encoder", "transformer"), 1)
    frames = {"a": 150, "b": 600}
    found = {module: config_of(work, module, frames) for module in work.modules}
    assert found["encoder"]["celeb_names"] == ["a"] and found["encoder"]["train"]["epochs"] == 10  # 340 of 4 on 150
    assert found["transformer"]["train"]["warm_start"]["epochs"] == 3
    for module, config in found.items():
        complete_config(module, config, tmp_path)


def test_a_training_goes_on_with_as_many_processes_as_it_began_with(tmp_path, monkeypatch):
    """Even if its quality asks for more today."""
    work = Work(tmp_path, "a", "b", QUALITIES["draft"], ("decoder",), 2)
    for number, processes in ((10, 2), (20, 1)):
        checkpoint = work.run("decoder") / f"checkpoints/{number:09d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"processes": processes}))
    (step,) = training_steps(work, "decoder", {"b": 50})
    assert step.processes == 1 and step.args[2:] == ("--resume", work.run("decoder"))
    (checkpoint / "state.json").write_text("{")
    (step,) = training_steps(work, "decoder", {"b": 50})
    assert step.processes == 2
    monkeypatch.setattr("people.recipe.has_mpi", lambda: False)
    with pytest.raises(ConfigError, match="started with 2 processes, which require mpirun"):
        training_steps(work, "decoder", {"b": 50})
    done = total_iterations(work, "decoder", {"b": 50})
    (work.run("decoder") / f"checkpoints/{done:09d}").mkdir()
    assert training_steps(work, "decoder", {"b": 50}) == []


def test_a_draft_begins_from_the_base_that_ships(tmp_path):
    work = Work(tmp_path, "a", "b", QUALITIES["draft"], ("decoder",), 1)
    own = complete_config("decoder", config_of(work, "decoder", {"b": 380}), tmp_path)
    networks.DECODER(nn.Variable((1, 15, 64, 64)), own.model.planes, own.model.resize_levels)
    networks.DECODER.load(own.finetune.param_path)
    assert own.drawing == "" and own.train.gan_start_at == own.train.epochs
    wider = Work(tmp_path, "a", "b", QUALITIES["good"], ("decoder",), 1)
    assert not complete_config("decoder", config_of(wider, "decoder", {"b": 380}), tmp_path).finetune.param_path


def test_a_sound_of_an_unknown_codec_is_left_out_with_a_note(films, tmp_path, capsys):
    tone = ("-f", "lavfi", "-i", "sine=duration=0.8", "-i", films / "a.mp4", "-map", "1:v", "-map", "0:a")
    ffmpeg(*tone, "-c:v", "copy", tmp_path / "a.mkv")
    (tmp_path / "b.mkv").write_bytes((tmp_path / "a.mkv").read_bytes().replace(b"A_VORBIS", b"A_XYZZYX"))
    assert open_film(tmp_path / "a.mkv").has_sound and not open_film(tmp_path / "b.mkv").has_sound
    assert "the format of its sound is unknown" in capsys.readouterr().out


def test_what_cannot_become_a_reenactment(films, tmp_path):
    run = "reenact_people.py"
    a, b = ("--source", films / "a.mp4"), ("--target", films / "long.mp4")
    must_fail(tmp_path, 2, "are the same file", run, *a, "--target", films / "a.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 2, "must end in .mp4", run, *a, *b, "--out", "o.avi")
    must_fail(tmp_path, 2, "is the input", run, *a, *b, "--out", films / "a.mp4")
    must_fail(tmp_path, 3, "no such video", run, *a, "--target", "nowhere.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 3, "12 frames; at least 40", run, *a, "--target", films / "few.mp4", "--out", "o.mp4")
    # a step says what is wrong, and the whole what to do
    command = [sys.executable, str(ROOT / run), *map(str, (*a, "--target", films / "grey.mp4", "--out", "g.mp4"))]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert "no usable face in 41 frames" in result.stderr and "repeat the command" in result.stderr
