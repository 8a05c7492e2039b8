"""People that are learned from the page: `reenact_people.py` prepares a video, then trains a decoder.

Each person has a folder in the log folder. One process runs at a time, with low priority. It ends with the server,
which resumes it when it is started again. The uploaded video is removed as soon as the faces have been cropped.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from config.runs import HELD_OUT_FILE, INFO_FILE
from datasets.celebv import read_frame, read_person
from datasets.film import FILM_FILE, film_of, write_film
from datasets.panels import side_by_side
from faces.landmarks import opening_of_eyes
from people.advice import what_is_missing
from people.targets import Target, free_name, instant_target, portrait, target_of
from people.work import INPUTS_FILE, QUALITIES, Work, person_name, read_inputs
from utils.cli import part_flags
from utils.errors import UserError
from utils.files import read_yaml, remove, write_yaml
from utils.html import for_page, jpeg
from utils.parallel import available_cores
from utils.progress import VARIABLE, read_progress
from utils.steps import ROOT, STOPPED, end_with
from web.controls import read_choice

FOLDER, STATE_FILE, LOG_FILE, PROGRESS_FILE, VIDEO = "learned", "learned.yaml", "log.txt", "progress.json", "video"
COMMAND = [sys.executable, str(ROOT / "reenact_people.py")]
LEVELS = ("draft", "good", "full")  # qualities, in the order in which they are trained
MAX_PEOPLE, MAX_TITLE = 20, 40
MAX_LEARN_S = 12 * 3600.0
MIN_FREE_BYTES = 2 << 30
LOW_PRIORITY = 10  # increment of the niceness
WATCH_S = 2.0
END_S = 60.0  # time to write a checkpoint
LOG_TAIL = 4096
KEPT = ("title", "state", "agreed_on", "why", "quality", "flags")
WORKING = ("looking", "learning")


class Learned:
    """A person that is learned. `title` is the name as it was typed, `name` that of the folder."""

    def __init__(self, folder: Path, name: str, title: str):
        self.id = secrets.token_hex(8)  # in URLs
        self.folder, self.name, self.title = folder, name, title
        self.state = "looking"  # looking | looked | learning | stopped | done | failed
        self.agreed_on, self.why, self.quality = date.today().isoformat(), "", LEVELS[0]
        self.flags: list[str] = []  # part of the video, and number of the face
        self.sheet = self.work().person(name) / "contact_sheet.png"
        self.missing: list[str] = []
        self.num_frames = 0
        self.shown_as = ""  # name among the targets, if there is a film
        self.weights: Path | None = None
        self.face = b""  # JPEG image of a held-out frame, real and painted with the newest weights
        self.faces = 0  # number of faces so far
        self.process: asyncio.subprocess.Process | None = None
        self.log_start = 0  # position of the process's output in the log

    def work(self, quality: str = "") -> Work:
        """Return the work folder with a quality, or the current one."""
        return Work(self.folder, "", self.name, QUALITIES[quality or self.quality], ("decoder",), available_cores())

    def next_quality(self) -> str:
        """Return the quality that can be trained now; '' if there is none."""
        if not self.num_frames or self.state in WORKING:
            return ""
        return (*LEVELS, "")[LEVELS.index(self.quality) + (self.state == "done")]

    def keep(self) -> None:
        """Write the state, which a restarted server reads."""
        write_yaml(self.folder / STATE_FILE, {key: getattr(self, key) for key in KEPT})

    def restore(self, quality: str) -> None:
        """Read the state of an earlier server; damaged values keep their defaults."""
        self.state, self.quality = "stopped", quality
        with suppress(OSError, ValueError, AttributeError):
            for key, value in (read_yaml(self.folder / STATE_FILE) or {}).items():
                if key in KEPT and type(value) is type(getattr(self, key)):
                    setattr(self, key, value)
        self.quality = self.quality if self.quality in LEVELS else LEVELS[0]

    def progress(self) -> dict[str, Any]:
        """Return what is done, the progress from 0 to 1 and the remaining seconds, as far as they are known."""
        found = read_progress(self.folder / PROGRESS_FILE) if self.state in WORKING else {}
        is_over = self.state == "learning" and found.get("done", 0.0) == 1.0
        return {"what": "measuring the result"} if is_over else found

    def card(self) -> dict[str, Any]:
        """Return the state for the page."""
        about = {"id": self.id, "title": self.title, "state": self.state, "why": self.why, "missing": self.missing}
        about |= {"frames": self.num_frames, "sheet": self.sheet.exists(), "face": self.faces}
        return about | {"next": self.next_quality()} | self.progress()


class Learning:
    """The people that are learned, one at a time, and added to `targets` as soon as they can be shown.

    `on_removed` is called with the name of a target that was removed.
    """

    def __init__(
        self, root: Path, targets: dict[str, Target], context: str, on_removed: Callable[[str], Awaitable[None]]
    ):
        self._root, self._targets, self._context = root.absolute(), targets, context
        self._on_removed = on_removed
        self.people: dict[str, Learned] = {}
        self._task: asyncio.Task | None = None
        self._changing = asyncio.Lock()
        for folder in sorted(self._root.glob("*"))[:MAX_PEOPLE]:
            inputs = read_inputs(folder)
            if name := inputs.names.get("target"):
                person = Learned(folder, name, name)
                person.restore(inputs.quality)
                self.people[person.id] = person
                self._look_at(person)
            elif (folder / VIDEO).is_file() and not (folder / INPUTS_FILE).exists():
                remove(folder)  # the server was killed before it looked at the video

    async def start(self) -> None:
        """Resume the work of an earlier server."""
        working = [person for person in self.people.values() if person.state in WORKING]
        for person in working[1:]:
            person.state = "stopped" if person.state == "learning" else "failed"
        if working:
            self._begin(working[0])

    def person(self, name: object) -> Learned:
        """Return a person by its name in URLs. Raises UserError if it does not exist."""
        found = self.people.get(name) if isinstance(name, str) else None
        if found is None:
            raise UserError("this person does not exist any more")
        return found

    def _require_idle(self) -> None:
        busy = next((person for person in self.people.values() if person.process is not None), None)
        if busy is not None or (self._task is not None and not self._task.done()):
            name = busy.title if busy else "another person"
            raise UserError(f"{name} is being processed; stop that first, or wait")

    async def look(self, wish: dict[str, Any], video: Path) -> None:
        """Add a person, and prepare its video.

        Raises UserError if there is no consent or video, too little space, or another person is being processed.
        """
        async with self._changing:
            self._require_idle()
            part, face = read_choice(wish)
            if wish.get("agreed") is not True:
                raise UserError("confirm that the person has agreed")
            if not video.exists():
                raise UserError("choose or record a video first")
            if len(self.people) >= MAX_PEOPLE:
                raise UserError(f"there are already {MAX_PEOPLE} people; remove one first")
            self._root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._root).free < MIN_FREE_BYTES:
                raise UserError("the disk has too little space")
            folder = self._root / secrets.token_hex(8)
            folder.mkdir()
            await asyncio.to_thread(shutil.move, video, folder / VIDEO)
            title = " ".join(str(wish.get("name", "")).split())[:MAX_TITLE] or "person"
            person = Learned(folder, person_name(title, "person"), title)
            person.flags = [*map(str, part_flags(part, face))]
            person.keep()
            self.people[person.id] = person
            self._begin(person)

    async def learn(self, wish: dict[str, Any]) -> None:
        """Start or resume the training, or that of the next quality.

        Raises UserError if the person cannot be trained, or another one is being processed.
        """
        async with self._changing:
            person = self.person(wish.get("id"))
            self._require_idle()
            quality = person.next_quality()
            if not quality:
                raise UserError(f"{person.title} cannot be trained now")
            person.state, person.quality = "learning", quality
            person.keep()
            self._begin(person)

    async def pause(self, wish: dict[str, Any]) -> None:
        """Stop a person's process, which writes a checkpoint first."""
        process = self.person(wish.get("id")).process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def remove(self, wish: dict[str, Any]) -> None:
        """Remove a person with all its files. Raises UserError if its process does not end."""
        person = self.person(wish.get("id"))
        await self.pause(wish)
        if person.state in WORKING and self._task is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), END_S)
        if person.state in WORKING:
            raise UserError(f"{person.title} is still being processed; try again")
        async with self._changing:
            if self.people.pop(person.id, None) is not None:
                self._targets.pop(person.shown_as, None)
                await self._on_removed(person.shown_as)
                await asyncio.to_thread(remove, person.folder)

    def _begin(self, person: Learned) -> None:
        person.why = ""
        self._task = asyncio.create_task(self._run(person))

    async def _run(self, person: Learned) -> None:
        """Run a person's process, and follow its progress."""
        was_looking = person.state == "looking"
        try:
            exit_code = await self._run_process(person)
            await asyncio.to_thread(self._look_at, person)
            if exit_code == 0:
                person.state = "looked" if was_looking else "done"
            elif exit_code in (*STOPPED, -signal.SIGTERM):  # the last one before its handlers are installed
                person.state = "failed" if was_looking else "stopped"
                person.why = person.why or ("stopped before the faces were cropped" if was_looking else "")
            else:
                person.state, person.why = "failed", _last_words(person)
        except UserError as error:
            person.state, person.why = "failed", for_page(error)
        finally:
            remove(person.folder / VIDEO)
            with suppress(OSError):
                person.keep()

    async def _run_process(self, person: Learned) -> int:
        """Run the process once, and return its exit code."""
        ends = end_with(os.getpid())

        def prepare() -> None:
            os.nice(LOW_PRIORITY)
            ends()

        args = ["--quality", person.quality, "--work-dir", str(person.folder)]
        if person.state == "looking":
            args = ["--target", str(person.folder / VIDEO), "--name", person.name, "--look", *person.flags, *args]
        remove(person.folder / PROGRESS_FILE)
        with open(person.folder / LOG_FILE, "ab") as log:
            person.log_start = log.tell()
            person.process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, VARIABLE: str(person.folder / PROGRESS_FILE)},
                start_new_session=True,
                preexec_fn=prepare,
            )
        until = time.monotonic() + MAX_LEARN_S
        try:
            while True:
                with suppress(asyncio.TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(person.process.wait()), WATCH_S)
                if person.state == "learning":
                    await asyncio.to_thread(self._look_at, person)
                if time.monotonic() > until:
                    person.why = f"not finished after {MAX_LEARN_S / 3600:.0f} hours"
                    await self.pause({"id": person.id})
        finally:
            person.process = None

    def _look_at(self, person: Learned) -> None:
        """Read what a person has, paint a held-out frame with the newest weights, and show the best among the targets.

        Those are a film of all frames at first, then a decoder of the first quality with the newest weights, and one of
        a later quality when it is complete.
        """
        root, newest = person.work().root(person.name), None
        with suppress(UserError, OSError):
            if not person.num_frames:
                landmarks = read_person(root, person.name, "all").landmarks
                person.num_frames, person.missing = len(landmarks), what_is_missing(landmarks)
            if not (film := person.folder / FILM_FILE).exists():
                write_film(film, film_of(root, person.name, "all"))
            if not person.shown_as:
                self._show(person, instant_target(film, person.name))
        for quality in LEVELS[: LEVELS.index(person.quality) + 1]:
            with suppress(UserError, OSError):
                run = person.work(quality).run("decoder")
                newest = target_of(run / INFO_FILE)
                if quality == LEVELS[0] or (run / HELD_OUT_FILE).exists():
                    self._show(person, newest)
        with suppress(UserError, OSError):
            if newest is not None and newest.decoder.weights != person.weights:
                person.weights = newest.decoder.weights
                person.face, person.faces = self._paint(person, newest), person.faces + 1

    def _show(self, person: Learned, target: Target) -> None:
        person.shown_as = person.shown_as or free_name(person.title, self._targets)
        self._targets[person.shown_as] = target

    def _paint(self, person: Learned, target: Target) -> bytes:
        """Return a held-out frame with open eyes, real and painted, as a JPEG image."""
        root = person.work().root(person.name)
        test = read_person(root, person.name, "test")
        number = int(opening_of_eyes(test.landmarks).mean(axis=1).argmax())
        real = read_frame(root, person.name, test.names[number])
        return jpeg(side_by_side([real, portrait(target, self._context, test.landmarks[number])]))


def _last_words(person: Learned) -> str:
    """Return a process's first error, else its last line, without the server's paths."""
    with open(person.folder / LOG_FILE, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(size - LOG_TAIL, person.log_start))
        lines = log.read().decode(errors="replace").replace("\r", "\n").split("\n")
    errors = [line for line in lines if line.startswith("error: ")]
    words = next((line for line in (*errors, *reversed(lines)) if line.strip()), "no output")
    return for_page(words.removeprefix("error: "), person.folder / VIDEO)
