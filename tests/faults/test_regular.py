"""Pipes, devices and folders in place of files, and strays of file managers: named or passed over; nothing hangs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import DEMO, DEMO_NETWORKS, ROOT, must_fail

from config import load_config
from datasets.annotations import read_names
from datasets.celebv import drawing_of
from datasets.film import load_film
from datasets.images import list_images, read_image, write_image
from datasets.prepared import PreparedFile
from inference.inputs import FrameSource
from inference.networks import Trained
from inference.record import read_record
from people.targets import read_held_out
from synthetic.expressions import EXPRESSION_FILE, read_expressions
from synthetic.moving import moving_head
from synthetic.truth import has_expressions
from utils.errors import ConfigError, UserError, WeightsError
from utils.files import atomic_path, check_outputs, file_digest, open_file, read_yaml
from utils.weights import read_parameters, read_sums

DECODER = ("--decoder-config", DEMO / "decoder/training_info.yaml", "--decoder-param-file", DEMO / "decoder/weights.h5")


@pytest.fixture(params=["pipe", "socket", "device"])
def strange(request, tmp_path, monkeypatch):
    """Make something of a name that is not a regular file."""
    monkeypatch.chdir(tmp_path)
    kept = []

    def make(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            kept.append(socket.socket(socket.AF_UNIX))
            kept[-1].bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        return path

    yield make
    for one in kept:
        one.close()


def test_every_reader_refuses_it_at_once(strange):
    with pytest.raises(OSError):
        open_file(strange("a"))
    with pytest.raises(OSError):
        file_digest(strange("b"))
    with pytest.raises((ValueError, OSError)):
        read_yaml(strange("c.yaml"))
    for read, name in (
        (lambda path: load_config("decoder", path), "d.yaml"),
        (read_image, "e.png"),
        (lambda path: read_names(path, 0, ""), "f.txt"),
        (read_parameters, "g.h5"),
        (FrameSource, "h.png"),
        (FrameSource, "i.mp4"),
        (lambda path: PreparedFile(path, (1,), "x"), "j.npz"),
        (lambda path: read_sums(path.parent), "k/SHA256SUMS"),
        (lambda path: read_record(path.parent), "l/reenactment.yaml"),
        (lambda path: check_outputs({"--video": path}), "m.mp4"),
    ):
        path = strange(name)
        try:
            read(path)
        except (UserError, OSError):
            continue
        pytest.fail(name)
    assert read_held_out(strange("n/held_out.json").parent) == {}


def test_a_folder_of_pictures_leaves_it_out(strange, capsys):
    frame = next(moving_head("Rowan=9", 1, 0))[0]
    for number in (1, 3):
        write_image(f"pictures/{number}.png", frame)
    strange("pictures/2.png")
    for stray in (".DS_Store", "._1.png", "Thumbs.db", ".1.png.icloud"):
        Path("pictures", stray).write_bytes(b"x")
    assert [path.name for path in sorted(list_images(Path("pictures")))] == ["1.png", "3.png"]
    assert "other files are ignored" in capsys.readouterr().out
    assert len([picture for picture in FrameSource(Path("pictures")) if picture is not None]) == 2


@pytest.mark.slow
def test_commands_end_with_a_line(data, tmp_path):
    """Without a check, each would wait forever: a configuration, a list, a frame, a image, an input and an output."""
    for name in ("pipe.yaml", "pipe.mp4", "out.mp4"):
        os.mkfifo(tmp_path / name)
    people = shutil.copytree(data / "datasets/CelebV", tmp_path / "datasets/CelebV")
    run = "test_reenactment.py"
    must_fail(tmp_path, 2, "not a regular file", "train_decoder.py", "--conf", "pipe.yaml")
    must_fail(tmp_path, 2, "not a regular file", run, "--decoder-config", "pipe.yaml", "--landmarks", "--input", "x")
    must_fail(tmp_path, 3, "not a regular file", run, *DECODER, "--landmarks", "--input", "pipe.mp4")
    must_fail(tmp_path, 2, "not a regular file", run, *DEMO_NETWORKS, "--video", "out.mp4")
    must_fail(tmp_path, 3, "not a regular file", "prepare_person.py", "pipe.mp4", "--name", "Me")
    args = ("--source", "pipe.mp4", "--target", "pipe.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 3, "no such video", "reenact_people.py", *args)
    frame = people / "Rowan/Image/000003.jpg"
    frame.unlink()
    os.mkfifo(frame)
    must_fail(tmp_path, 3, "not a regular file", "preprocess.py", "--dataset", "CelebV", "--out-dir", "npz")
    must_fail(tmp_path, 3, "training would fail", "preprocess.py", "--dataset", "CelebV", "--check")
    (people / "Rowan/all_98pt.txt").unlink()
    os.mkfifo(people / "Rowan/all_98pt.txt")
    must_fail(tmp_path, 3, "", "preprocess.py", "--dataset", "CelebV", "--check", "--celeb-name-list", "Rowan")


# Links


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/real.txt").write_text("old")
    for name, target in (("link.txt", "far/real.txt"), ("new.txt", "far/not_yet.txt"), ("two.txt", "link.txt")):
        (tmp_path / name).symlink_to(target)
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == name
    assert (tmp_path / "far/real.txt").read_text() == "two.txt"
    assert (tmp_path / "far/not_yet.txt").read_text() == "new.txt"
    (tmp_path / "nowhere.txt").symlink_to("missing/x.txt")
    check_outputs({"--video": tmp_path / "nowhere.txt"})
    with pytest.raises(ConfigError, match="is the input"):
        check_outputs({"--video": tmp_path / "link.txt"}, [tmp_path / "far/real.txt"])


# Strays in other places


def test_a_missing_file_of_sums_is_none(tmp_path):
    assert read_sums(tmp_path) == {}
    (tmp_path / "SHA256SUMS").mkdir()
    with pytest.raises(WeightsError, match="damaged"):
        read_sums(tmp_path)


def break_file(path: Path, how: str) -> None:
    """Replace a file by an empty one, a folder, or a broken link."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere")
    else:
        path.write_text("")


@pytest.mark.parametrize("how", ["empty", "folder", "link"])
def test_files_that_need_not_exist_are_not_passed_over_when_they_are_broken(tmp_path, how):
    """Without them, another drawing, no film, another neutral face, no check, and no truth would be taken."""
    run = shutil.copytree(ROOT / "demo/weights/decoder", tmp_path / "run")
    info, weights, person = run / "training_info.yaml", run / "weights.h5", tmp_path / "Ann"
    decoder = Trained(load_config("decoder", info), weights, info)
    readers: dict[Path, Callable[[], object]] = {
        person / "person.yaml": lambda: drawing_of(tmp_path, ["Ann"]),
        run / "film.npz": decoder.film,
        run / "face_98pt.txt": decoder.shape,
        person / EXPRESSION_FILE: lambda: has_expressions(tmp_path, "Ann") and read_expressions(person),
        person / "train_98pt.txt": lambda: load_film(person),
    }
    if how != "empty":  # an empty list of digests is one of no file
        readers[run / "SHA256SUMS"] = lambda: read_parameters(weights)
    for path, read in readers.items():
        break_file(path, how)
        with pytest.raises(UserError) as error:
            read()
        assert str(path) in str(error.value) and "\n" not in str(error.value)
