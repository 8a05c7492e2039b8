"""Videos of all kinds, written by ffmpeg: frames are as a player shows them, or the file is refused in one line."""

from __future__ import annotations

import resource
import shutil
import subprocess
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from helpers import DEMO_NETWORKS, ROOT, ffmpeg, frames_in_file, must_fail, must_run, write_frames
from PIL import Image

from datasets.film import read_film
from datasets.images import read_image, write_image
from inference.inputs import FrameSource
from synthetic.moving import VIDEO_FPS, VIDEO_SIZE, moving_head
from utils.errors import DataError, ResourceError
from utils.video import MAX_SIDE, Video, open_film, open_video, read_video
from utils.weights import read_parameters

FRAMES = 40
WIDTH, HEIGHT = VIDEO_SIZE


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """m.mp4, a synthetic person of 1.6 s."""
    folder = tmp_path_factory.mktemp("films")
    write_frames(folder / "m.mp4", [frame for frame, _ in moving_head("Rowan=9", FRAMES, seed=0)])
    return folder


def frames_of(path: Path) -> tuple[Video, list[np.ndarray]]:
    video = open_film(path)
    return video, list(read_video(video))


def tone(path: Path, hertz: int, seconds: float, begin_s: float = 0.0) -> Path:
    """Write a sound, silent up to a moment."""
    times = np.arange(int(seconds * 16000)) / 16000
    samples = np.where(times >= begin_s, 0.5 * np.sin(2 * np.pi * hertz * times), 0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


def samples_of(path: Path) -> np.ndarray:
    """The sound of a file, at 8000 a second."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "s16le", "-ac", "1", "-ar", "8000", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16).astype(int)


def sound_with(video: Video, path: Path, frames: list[np.ndarray]) -> np.ndarray:
    """The sound that frames of a video get with them."""
    with open_video(path, video.size, video.fps, "x", video, len(frames) / float(video.fps)) as writer:
        for frame in frames:
            writer.write(frame)
    assert frames_in_file(path) == len(frames)
    return samples_of(path)


# Sound that is longer, later, or one of several


@pytest.mark.parametrize("seconds, begin_s, delay_s", [(4.0, 0.0, 0.0), (1.6, 0.0, 0.5), (30.0, 0.5, 0.0)])
def test_sound_of_another_length(films, tmp_path, seconds, begin_s, delay_s):
    sound = tone(tmp_path / "a.wav", 440, seconds, begin_s)
    delayed = ("-itsoffset", delay_s, "-i", sound)
    ffmpeg("-i", films / "m.mp4", *delayed, "-map", "0:v", "-map", "1:a", "-c:v", "copy", tmp_path / "l.mp4")
    video, frames = frames_of(tmp_path / "l.mp4")
    assert len(frames) == FRAMES and video.num_frames(VIDEO_FPS) == FRAMES
    sound = sound_with(video, tmp_path / "with.mp4", frames[:FRAMES])
    assert len(sound) / 8000 == pytest.approx(1.6, abs=0.07)
    silent = int(8000 * (max(begin_s, delay_s) - 0.1))
    assert silent < 0 or np.abs(sound[:silent]).max() < 200
    assert np.abs(sound[max(silent, 0) + 1600 :]).max() > 8000


def test_pictures_that_begin_later_than_the_sound(films, tmp_path):
    sound = tone(tmp_path / "a.wav", 440, 2.2)
    late = ("-itsoffset", 0.5, "-i", films / "m.mp4")
    ffmpeg(*late, "-i", sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", tmp_path / "late.mp4")
    _, frames = frames_of(tmp_path / "late.mp4")
    assert len(frames) == pytest.approx(FRAMES + 0.5 * VIDEO_FPS, abs=1)


def test_the_default_one_of_several_sounds(films, tmp_path):
    sounds = [tone(tmp_path / f"{hertz}.wav", hertz, 1.6) for hertz in (300, 800)]
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:v", "copy")
    for chosen, hertz in ((0, 300), (1, 800)):
        dispositions = [f"-disposition:a:{chosen}", "default", f"-disposition:a:{1 - chosen}", "0"]
        inputs = ("-i", films / "m.mp4", "-i", sounds[0], "-i", sounds[1])
        ffmpeg(*inputs, *maps, *dispositions, tmp_path / "two.mkv")
        video, frames = frames_of(tmp_path / "two.mkv")
        sound = sound_with(video, tmp_path / "with.mp4", frames)
        assert np.abs(np.fft.rfft(sound)).argmax() * 8000 / len(sound) == pytest.approx(hertz, abs=5)


@pytest.mark.slow
def test_a_longer_sound_does_not_refuse_a_whole_run(films, tmp_path):
    ffmpeg("-i", films / "m.mp4", "-i", tone(tmp_path / "a.wav", 440, 4), "-c:v", "copy", tmp_path / "l.mp4")
    out = must_run(tmp_path, "test_reenactment.py", *DEMO_NETWORKS, "--input", "l.mp4", "--video", "o.mp4")
    assert f"o.mp4, {FRAMES} frames" in out and frames_in_file(tmp_path / "o.mp4") == FRAMES
    must_run(tmp_path, "prepare_person.py", "l.mp4", "--name", "Me", "--data-dir", "people")
    assert len(list((tmp_path / "people/Me/Image").iterdir())) > FRAMES // 2


# Cuts


def cut(films: Path, folder: Path, ending: str, share: float) -> Path:
    whole = folder / f"whole{ending}"
    ffmpeg("-i", films / "m.mp4", "-c", "copy", "-movflags", "+faststart", whole)
    path = folder / f"cut{ending}"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    return path


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_truncated_video_is_refused_or_reported(films, tmp_path, capsys, ending):
    with pytest.raises(DataError, match="frames exist; is it a video|cannot be read"):
        open_film(cut(films, tmp_path, ending, 0.6))
    said = {}
    for share in np.arange(0.96, 1, 0.004):
        capsys.readouterr()
        try:
            count = len(frames_of(cut(films, tmp_path, ending, share))[1])
        except DataError:
            continue
        said[count] = capsys.readouterr().out
    some_missing = [words for count, words in said.items() if count < FRAMES - 2]
    assert (some_missing or ending == ".mkv") and all("note" in words for words in some_missing)


def test_damage_inside_is_said_once(films, tmp_path, capsys):
    content = bytearray((films / "m.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(600)
    (tmp_path / "m.mp4").write_bytes(content)
    assert len(frames_of(tmp_path / "m.mp4")[1]) > FRAMES // 2
    assert capsys.readouterr().out.count("damaged (") <= 1


# What a player shows


@pytest.mark.parametrize("ratio, size", [("16/9", (1138, HEIGHT)), ("1/2", (WIDTH, 720)), ("1/1", (WIDTH, HEIGHT))])
def test_pixels_that_are_not_square(films, tmp_path, ratio, size):
    ffmpeg("-i", films / "m.mp4", "-vf", f"setsar={ratio}", "-c:v", "libx264", tmp_path / "sar.mp4")
    video, frames = frames_of(tmp_path / "sar.mp4")
    assert video.size == size and frames[0].shape == (size[1], size[0], 3) and len(frames) == FRAMES


def test_pixels_that_are_not_square_and_lie_on_their_side(films, tmp_path):
    ffmpeg("-i", films / "m.mp4", "-vf", "setsar=2", "-c:v", "libx264", tmp_path / "sar.mp4")
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "sar.mp4", "-c", "copy", tmp_path / "turned.mp4")
    assert open_film(tmp_path / "turned.mp4").size == (HEIGHT, 2 * WIDTH)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_refused(films, tmp_path, transfer):
    to_hdr = f"zscale=tin=bt709:min=bt709:pin=bt709:t={transfer}:p=bt2020:m=bt2020nc:npl=200,format=yuv420p10le"
    options = ("-c:v", "libx265", "-x265-params", "log-level=none")
    ffmpeg("-i", films / "m.mp4", "-vf", to_hdr, *options, tmp_path / "h.mp4")
    with pytest.raises(DataError, match="HDR video; convert it to SDR"):
        open_film(tmp_path / "h.mp4")


def test_a_single_image_is_a_film_of_one_frame(films, tmp_path):
    frame = frames_of(films / "m.mp4")[1][0]
    for ending in (".png", ".jpg", ".webp", ".bmp", ".tiff"):
        Image.fromarray(frame).save(tmp_path / f"a{ending}")
        source = FrameSource(tmp_path / f"a{ending}")
        (found,) = source
        assert not source.is_film and source.count == 1
        assert np.abs(found.astype(int) - frame).mean() < 3


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_the_exif_rotation_of_an_image(films, tmp_path, turn):
    image = Image.fromarray(frames_of(films / "m.mp4")[1][0])
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    (found,) = FrameSource(tmp_path / "a.jpg")
    (in_folder,) = FrameSource(tmp_path)
    assert found.shape == in_folder.shape and np.abs(found.astype(int) - in_folder).mean() < 3


def test_animations(films, tmp_path):
    frames = [Image.fromarray(frame) for frame in frames_of(films / "m.mp4")[1]]
    for ending in (".gif", ".png"):
        frames[0].save(tmp_path / f"a{ending}", save_all=True, append_images=frames[1:], duration=40)
        assert len(frames_of(tmp_path / f"a{ending}")[1]) == pytest.approx(FRAMES, abs=1)
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:4], duration=40)
    with pytest.raises(DataError, match="a.webp: "):  # ffmpeg cannot decode them
        list(read_video(open_film(tmp_path / "a.webp")))


@pytest.mark.parametrize(
    "ending, codec", [(".gif", "gif"), (".webm", "libvpx-vp9"), (".avi", "mpeg4"), (".mov", "prores_ks")]
)
def test_other_kinds_of_video(films, tmp_path, ending, codec):
    alpha = ("-pix_fmt", "yuva420p") if ending == ".webm" else ()
    ffmpeg("-i", films / "m.mp4", "-c:v", codec, *alpha, tmp_path / f"a{ending}")
    video, frames = frames_of(tmp_path / f"a{ending}")
    assert video.size == VIDEO_SIZE and len(frames) == pytest.approx(FRAMES, abs=1)
    assert np.abs(frames[0].mean() - 110) < 30


def test_an_edit_list(films, tmp_path):
    ffmpeg("-ss", 0.4, "-i", films / "m.mp4", "-c", "copy", tmp_path / "trimmed.mp4")
    _, frames = frames_of(tmp_path / "trimmed.mp4")
    assert len(frames) == pytest.approx(FRAMES - 0.4 * VIDEO_FPS, abs=2)


# Rates, sizes and counts that a file claims


@pytest.mark.parametrize("rate, expected", [(90000, 25), (1000, 25), (241, 25), (50, 50)])
def test_a_rate_that_cannot_be(films, tmp_path, capsys, rate, expected):
    ffmpeg(
        "-r",
        rate,
        "-i",
        films / "m.mp4",
        "-frames:v",
        4,
        "-c:v",
        "mpeg4" if rate == 50 else "mjpeg",
        tmp_path / "r.mkv",
    )
    assert open_film(tmp_path / "r.mkv").fps == expected
    assert ("claims" in capsys.readouterr().out) == (expected != rate)


def test_times_that_cannot_be(films, tmp_path):
    """A frame hours later would otherwise be preceded by repeated frames."""
    late = "setpts='if(eq(N,20),N/25+7200,N/25)/TB'"
    ffmpeg("-i", films / "m.mp4", "-vf", late, "-fps_mode", "vfr", "-c:v", "mpeg4", "-bf", 0, tmp_path / "late.mkv")
    with pytest.raises(DataError, match="frames in 7.* s; it is not a film, or its times are damaged"):
        open_film(tmp_path / "late.mkv")
    slow = "setpts='if(lt(N,20),N/25,N/25+9)/TB'"
    ffmpeg("-i", films / "m.mp4", "-vf", slow, "-fps_mode", "vfr", tmp_path / "stays.mkv")
    assert len(frames_of(tmp_path / "stays.mkv")[1]) == pytest.approx(FRAMES + 9 * VIDEO_FPS, abs=2)


def test_frames_that_are_too_large(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=s=6000x1000:d=0.1:r=25", "-c:v", "mjpeg", tmp_path / "wide.mkv")
    video, frames = frames_of(tmp_path / "wide.mkv")
    assert video.size == (MAX_SIDE, round(1000 * MAX_SIDE / 6000)) and frames[0].shape[1] == MAX_SIDE
    ffmpeg("-f", "lavfi", "-i", "color=s=10000x4000:d=0.1:r=25", "-c:v", "mjpeg", tmp_path / "huge.mkv")
    with pytest.raises(DataError, match="more than 36 million pixels"):
        open_film(tmp_path / "huge.mkv")


def test_a_number_of_frames_limits_the_work(films, monkeypatch):
    asked_for = []
    monkeypatch.setattr("inference.inputs.read_video", lambda *args: asked_for.append(args) or iter(()))
    list(FrameSource(films / "m.mp4", None, 3).first(3))
    assert asked_for[0][2] == 3
    assert len(list(read_video(open_film(films / "m.mp4", 0.2), None, 3))) == 3


@pytest.mark.parametrize("rate", ["100000", "1e-3", "0", "nan", "inf", "-5"])
def test_rates_that_nobody_can_want(tmp_path, rate):
    must_fail(tmp_path, 2, "--fps: must be between 0.5 and 240", "test_reenactment.py", *DEMO_NETWORKS, "--fps", rate)


# What is not a video


def test_playlists_are_refused(films, tmp_path):
    (tmp_path / "m.mp4").write_bytes((films / "m.mp4").read_bytes())
    ffmpeg("-i", films / "m.mp4", "-c", "copy", "-f", "hls", tmp_path / "list.m3u8")
    (tmp_path / "list.mp4").write_bytes((tmp_path / "list.m3u8").read_bytes())
    (tmp_path / "joined.ffconcat").write_text("ffconcat version 1.0\nfile m.mp4\n")
    (tmp_path / "dash.mpd").write_text("<?xml version='1.0'?><MPD><Period><BaseURL>m.mp4</BaseURL></Period></MPD>")
    for name in ("list.m3u8", "list.mp4", "joined.ffconcat", "dash.mpd"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a video"):
            open_film(tmp_path / name)


@pytest.mark.parametrize("begin_s", [0.0, 3600.0, 90_000.0])
def test_a_stream_that_begins_late(films, tmp_path, capsys, begin_s):
    ffmpeg("-i", films / "m.mp4", "-c", "copy", "-output_ts_offset", begin_s, tmp_path / "late.ts")
    video, frames = frames_of(tmp_path / "late.ts")
    assert len(frames) == FRAMES and video.seconds == pytest.approx(1.6, abs=0.01)
    assert "note" not in capsys.readouterr().out


def test_pictures_and_sound_of_a_stream_stay_in_step(films, tmp_path):
    """A tone from 1.0 s on, images from 0.5 s on, all of it an hour late."""
    inputs = ("-i", tone(tmp_path / "a.wav", 440, 3.0, 1.0), "-itsoffset", 0.5, "-i", films / "m.mp4")
    ffmpeg(*inputs, "-c:v", "copy", "-output_ts_offset", 3600, tmp_path / "both.ts")
    video, frames = frames_of(tmp_path / "both.ts")
    assert len(frames) == pytest.approx(FRAMES + 0.5 * VIDEO_FPS, abs=1)
    sound = np.abs(sound_with(video, tmp_path / "with.mp4", frames))
    assert np.argmax(sound > 4000) / 8000 == pytest.approx(1.0, abs=0.06)


def test_a_cover_is_no_film(films, tmp_path):
    """A cover image before the video stream, and without one."""
    ffmpeg("-i", films / "m.mp4", "-frames:v", 1, tmp_path / "cover.png")
    song = ("-i", tone(tmp_path / "a.wav", 440, 1.6), "-i", tmp_path / "cover.png")
    ffmpeg(*song, "-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v:0", "attached_pic", tmp_path / "song.m4a")
    with pytest.raises(DataError, match="no video stream"):
        open_film(tmp_path / "song.m4a")
    film = ("-i", films / "m.mp4", "-map", 1, "-map", 2, "-c:v", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg(*song, *film, tmp_path / "film.mp4")
    assert len(frames_of(tmp_path / "film.mp4")[1]) == FRAMES


def test_a_file_of_sound_alone(tmp_path):
    tone(tmp_path / "a.wav", 440, 1)
    with pytest.raises(DataError, match="cannot be read as a video"):
        open_film(tmp_path / "a.wav")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_tags_of_any_encoding(films, tmp_path, ending):
    """Of old cameras, in Latin-1. The AVI file also claims 600 frames a second, and lacks times."""
    path, tags = (
        tmp_path / f"old.{ending}",
        [b"-metadata", b"title=\xe9t\xe9 \xff", b"-metadata:s:v", b"title=\xe4\x80"],
    )
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(films / "m.mp4"),
        "-c",
        "copy",
        *tags,
        str(path),
    ]
    subprocess.run(command, check=True)
    assert b"\xe9t\xe9" in path.read_bytes() and len(frames_of(path)[1]) >= FRAMES - 2


def test_what_the_system_refuses_is_not_damaged(films, tmp_path, monkeypatch):
    """A video, an image, weights and a film for which there are no more open files."""
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    shutil.copy(ROOT / "demo/weights/decoder/weights.h5", tmp_path / "a.h5")
    shutil.copy(ROOT / "demo/weights/decoder/film.npz", tmp_path / "film.npz")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    readers = {films / "m.mp4": open_film, tmp_path / "a.png": read_image, tmp_path / "a.h5": read_parameters}
    for path, read in (readers | {tmp_path / "film.npz": read_film}).items():
        with open(path, "rb") as file:
            resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno(), before[1]))
            try:
                with pytest.raises((OSError, ResourceError), match="[Tt]oo many open files"):
                    read(path)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
