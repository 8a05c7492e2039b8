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

from config.runs import INFO_FILE
from datasets.celebv import read_frame, read_person
from datasets.film import FILM_FILE, film_of, write_film
from datasets.panels import side_by_side
from faces.landmarks import opening_of_eyes
from people.advice import what_is_missing
from people.recipe import total_iterations
from people.targets import Target, free_name, instant_target, portrait, target_of
from people.work import INPUTS_FILE, QUALITIES, Work, person_name, read_inputs
from training.series import TIMER, read_series
from utils.errors import UserError, one_line
from utils.files import read_yaml, remove, write_yaml
from utils.html import jpeg, without_paths
from utils.parallel import available_cores
from utils.steps import ROOT, STOPPED, end_with

FOLDER, STATE_FILE, LOG_FILE, VIDEO = "learned", "learned.yaml", "log.txt", "video"
COMMAND = [sys.executable, str(ROOT / "reenact_people.py")]
MAX_PEOPLE, MAX_TITLE = 20, 40
MAX_LEARN_S = 2 * 3600.0
MIN_FREE_BYTES = 2 << 30
LOW_PRIORITY = 10  # increment of the niceness
WATCH_S = 2.0
END_S = 60.0  # time to write a checkpoint
LOG_TAIL = 4096
WORKING = ("looking", "learning")


class Learned:
    """A person that is learned. `title` is the name as it was typed, `name` that of the folder."""

    def __init__(self, folder: Path, name: str, title: str, state: str, agreed_on: str = ""):
        self.id = secrets.token_hex(8)  # in URLs
        self.folder, self.name, self.title, self.agreed_on = folder, name, title, agreed_on
        self.state = state  # looking | looked | learning | stopped | done | failed
        self.why = ""  # reason of a failure
        self.missing: list[str] = []
        self.num_frames = 0
        self.shown_as = ""  # name among the targets, if there is a film
        self.weights: Path | None = None
        self.face = b""  # JPEG image of a held-out frame, real and painted with the newest weights
        self.faces = 0  # number of faces so far
        self.total = 0
        self._series: dict[str, list[tuple[int, float]]] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.log_start = 0  # position of the process's output in the log

    @property
    def work(self) -> Work:
        """Return the work folder."""
        return Work(self.folder, "", self.name, QUALITIES["draft"], ("decoder",), available_cores())

    @property
    def sheet(self) -> Path:
        """Return the contact sheet."""
        return self.work.person(self.name) / "contact_sheet.png"

    @property
    def film(self) -> Path:
        """Return the path of the film."""
        return self.folder / FILM_FILE

    def keep(self) -> None:
        """Write the state, which a restarted server reads."""
        state = {"state": self.state, "agreed_on": self.agreed_on, "why": self.why, "title": self.title}
        write_yaml(self.folder / STATE_FILE, state)

    def progress(self) -> dict[str, float]:
        """Return the progress from 0 to 1 and the remaining seconds, as far as they are known."""
        if self.state != "learning":
            return {}
        with suppress(OSError, ValueError, IndexError):  # files may be incomplete while they are written
            self._series = read_series(self.work.run("decoder"))
        times = self._series.get(TIMER)
        if not times or not self.total:
            return {}
        done, seconds = times[-1][0] + 1, sum(each for _, each in times) / len(times)
        return {"done": min(done / self.total, 1.0), "left_s": max(self.total - done, 0) * seconds}

    def as_json(self) -> dict[str, Any]:
        """Return the state for the page."""
        about = {"id": self.id, "name": self.title, "state": self.state, "why": self.why, "missing": self.missing}
        about |= {"frames": self.num_frames, "sheet": self.sheet.exists(), "face": self.faces}
        return about | {"shown_as": self.shown_as} | self.progress()


class Learning:
    """The people that are learned, one at a time, and added to `targets` as soon as they can be shown.

    `on_removed` is called with the name of a target that was removed.
    """

    def __init__(
        self, root: Path, targets: dict[str, Target], context: str, on_removed: Callable[[str], Awaitable[None]]
    ):
        self._root, self._targets, self._context = root.absolute(), targets, context
        self._on_removed = on_removed
        self._people: dict[str, Learned] = {}
        self._task: asyncio.Task | None = None
        self._changing = asyncio.Lock()
        for folder in sorted(self._root.glob("*"))[:MAX_PEOPLE]:
            self._find(folder)

    def _find(self, folder: Path) -> None:
        found = read_inputs(folder)
        if "target" not in found.names:
            if (folder / VIDEO).is_file() and not (folder / INPUTS_FILE).exists():
                remove(folder)  # the server was killed before it looked at the video
            return
        state: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            state = read_yaml(folder / STATE_FILE) or {}
        name = found.names["target"]
        person = Learned(folder, name, str(state.get("title") or name), str(state.get("state", "stopped")))
        person.agreed_on, person.why = str(state.get("agreed_on", "")), str(state.get("why", ""))
        self._people[person.id] = person
        self._look_at_frames(person)
        if person.film.exists():
            self._show_at_once(person)
        self._look_at_weights(person)

    async def start(self) -> None:
        """Resume the work of an earlier server."""
        begun = False
        for person in self._people.values():
            if person.state in WORKING and not begun:
                begun = True
                self._begin(person)
            elif person.state in WORKING:
                person.state = "stopped" if person.state == "learning" else "failed"

    def as_json(self) -> dict[str, Any]:
        """Return all people and the names of all targets."""
        return {"people": [person.as_json() for person in self._people.values()], "shown": list(self._targets)}

    def person(self, name: object) -> Learned:
        """Return a person by its name in URLs. Raises UserError if it does not exist."""
        found = self._people.get(name) if isinstance(name, str) else None
        if found is None:
            raise UserError("this person does not exist any more; reload the page")
        return found

    def _require_idle(self) -> None:
        busy = next((person for person in self._people.values() if person.process is not None), None)
        if busy is not None or (self._task is not None and not self._task.done()):
            name = busy.title if busy else "another person"
            raise UserError(f"{name} is being processed; stop that first, or wait")

    async def look(self, video: Path, name: str, has_agreed: bool) -> Learned:
        """Add a person, and prepare its video.

        Raises UserError if there is no consent, too little space, or another person is being processed.
        """
        async with self._changing:
            self._require_idle()
            if has_agreed is not True:
                raise UserError("confirm that the person has agreed")
            if len(self._people) >= MAX_PEOPLE:
                raise UserError(f"there are already {MAX_PEOPLE} people; remove one first")
            self._root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._root).free < MIN_FREE_BYTES:
                raise UserError("the disk has too little space")
            folder = self._root / secrets.token_hex(8)
            folder.mkdir()
            await asyncio.to_thread(shutil.move, video, folder / VIDEO)
            title = " ".join(name.split())[:MAX_TITLE] or "person"
            person = Learned(folder, person_name(title, "person"), title, "looking", date.today().isoformat())
            person.keep()
            self._people[person.id] = person
            self._begin(person)
            return person

    async def learn(self, person: Learned) -> None:
        """Start or resume the training.

        Raises UserError if the person cannot be trained, or another one is being processed.
        """
        async with self._changing:
            self._require_idle()
            if person.state not in ("looked", "stopped", "failed") or not person.num_frames:
                raise UserError(f"{person.title} cannot be trained now")
            person.state = "learning"
            person.keep()
            self._begin(person)

    async def stop(self, person: Learned) -> None:
        """Stop a person's process, which writes a checkpoint first."""
        if person.process is not None:
            with suppress(ProcessLookupError):
                person.process.send_signal(signal.SIGTERM)

    async def remove(self, person: Learned) -> None:
        """Remove a person with all its files."""
        await self.stop(person)
        if person.process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), END_S)
        if person.process is not None:
            raise UserError(f"{person.title} is still being processed; try again")
        async with self._changing:
            if self._people.pop(person.id, None) is not None:
                self._targets.pop(person.shown_as, None)
                await self._on_removed(person.shown_as)
                await asyncio.to_thread(remove, person.folder)

    def _begin(self, person: Learned) -> None:
        person.why = ""
        self._task = asyncio.create_task(self._run(person))

    async def _run(self, person: Learned) -> None:
        """Run a person's process, and follow its progress."""
        try:
            exit_code = await self._run_process(person)
            was_looking = person.state == "looking"
            await asyncio.to_thread(self._look_at_frames, person)
            if exit_code == 0 and was_looking:
                await asyncio.to_thread(self._show_at_once, person)
            await asyncio.to_thread(self._look_at_weights, person)
            if exit_code == 0:
                person.state = "looked" if was_looking else "done"
            elif exit_code in (*STOPPED, -signal.SIGTERM):  # the last one before its handlers are installed
                person.state = "failed" if was_looking else "stopped"
                person.why = person.why or ("stopped before the faces were cropped" if was_looking else "")
            else:
                person.state, person.why = "failed", _last_words(person)
        except UserError as error:
            person.state, person.why = "failed", without_paths(one_line(error))
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

        args = ["--work-dir", str(person.folder)]
        if person.state == "looking":
            args = ["--target", str(person.folder / VIDEO), "--name", person.name, "--look", *args]
        with open(person.folder / LOG_FILE, "ab") as log:
            person.log_start = log.tell()
            person.process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,
            )
        until = time.monotonic() + MAX_LEARN_S
        try:
            while True:
                with suppress(asyncio.TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(person.process.wait()), WATCH_S)
                if person.state == "learning":
                    await asyncio.to_thread(self._look_at_weights, person)
                if time.monotonic() > until:
                    person.why = f"not finished after {MAX_LEARN_S / 3600:.0f} hours"
                    await self.stop(person)
        finally:
            person.process = None

    def _look_at_frames(self, person: Learned) -> None:
        """Read how many frames a person has, and what they lack."""
        work = person.work
        with suppress(UserError, OSError):
            landmarks = read_person(work.root(person.name), person.name, "all").landmarks
            person.num_frames, person.missing = len(landmarks), what_is_missing(landmarks)

    def _show_at_once(self, person: Learned) -> None:
        """Add a person to the targets with a film of all its frames."""
        with suppress(UserError, OSError):
            if not person.film.exists():
                write_film(person.film, film_of(person.work.root(person.name), person.name, "all"))
            person.shown_as = person.shown_as or free_name(person.title, self._targets)
            self._targets[person.shown_as] = instant_target(person.film, person.name)

    def _look_at_weights(self, person: Learned) -> None:
        """Add a person to the targets with its newest weights, and paint a held-out frame."""
        work = person.work
        if not person.total:
            with suppress(UserError, OSError):
                names = read_person(work.root(person.name), person.name, "train").names
                person.total = total_iterations(work, "decoder", {person.name: len(names)})
        with suppress(UserError, OSError):
            target = target_of(work.run("decoder") / INFO_FILE)
            person.shown_as = person.shown_as or free_name(person.title, self._targets)
            self._targets[person.shown_as] = target
            if target.decoder.weights == person.weights:
                return
            person.weights = target.decoder.weights
            person.face, person.faces = self._paint(person, target), person.faces + 1

    def _paint(self, person: Learned, target: Target) -> bytes:
        """Return a held-out frame with open eyes, real and painted, as a JPEG image."""
        root = person.work.root(person.name)
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
    return without_paths(one_line(words.removeprefix("error: ").replace(str(person.folder / VIDEO), "the video")))
