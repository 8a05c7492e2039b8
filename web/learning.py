"""People that the page learns: a video is looked at, then a decoder is trained beside the page, by learn_person.py.

Each has a folder below the log folder, whose name is decided here. One process works at a time, with low priority; it
ends with the server, which goes on with it when it is started again. The video goes as soon as the faces are cut out.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from config.runs import INFO_FILE
from datasets.celebv import read_frame, read_person
from datasets.panels import side_by_side
from inference.film import FILM_FILE, film_of, write_film
from inference.targets import Target, free_name, instant_target, portrait, target_of
from people.advice import what_is_missing
from people.recipe import total_iterations
from people.work import QUALITIES, Work, as_name, made_of
from training.series import TIMER, read_series
from utils.ending import remove
from utils.errors import UserError, one_line
from utils.files import read_yaml, remove_folder, write_yaml
from utils.html import jpeg
from utils.parallel import available_cores
from utils.steps import ROOT, STOPPED, end_with

FOLDER, STATE_FILE, LOG_FILE, VIDEO = "learned", "learned.yaml", "log.txt", "video"
COMMAND = [sys.executable, str(ROOT / "learn_person.py")]
MAX_PEOPLE = 20
MAX_LEARN_S = 2 * 3600.0
MIN_FREE_BYTES = 2 << 30  # what a person may come to take, and some to spare
LOW_PRIORITY = 10  # added to a process's niceness, so that live pictures come first
WATCH_S = 2.0
END_S = 60.0  # in which a process that is asked to stop has written its checkpoint
BUSY, BUSY_TRIES, BUSY_WAIT_S = 6, 5, 5.0  # exit code while what a killed server left still writes
LOG_TAIL = 4096
LOSS = "L1_loss"
WORKING = ("looking", "learning")


class Learned:
    """Hold a person who is learned, or was.

    Attributes:
        id: its name in addresses.
        state: looking | looked | learning | stopped | done | failed.
        why: what went wrong.
        shown_as: its name among those that can be shown, once it has weights.
        face: JPEG of a held-out frame, real and painted by the newest weights.
    """

    def __init__(self, folder: Path, name: str, state: str, agreed_on: str = ""):
        self.id = secrets.token_hex(8)
        self.folder, self.name, self.state, self.agreed_on = folder, name, state, agreed_on
        self.why = ""
        self.missing: list[str] = []
        self.num_frames = 0
        self.shown_as = ""
        self.weights: Path | None = None
        self.face = b""
        self.faces = 0  # number of the face: how many there were
        self.total = 0
        self._series: dict[str, list[tuple[int, float]]] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.log_start = 0  # where the process's own words begin in the log

    @property
    def work(self) -> Work:
        """Return what is trained, and where."""
        return Work(self.folder, "", self.name, QUALITIES["draft"], ("decoder",), available_cores())

    @property
    def sheet(self) -> Path:
        """Return the picture of some of its faces."""
        return self.work.person(self.name) / "contact_sheet.png"

    @property
    def film(self) -> Path:
        """Return the file of its film."""
        return self.folder / FILM_FILE

    def keep(self) -> None:
        """Note the state, for a server that is started again."""
        write_yaml(self.folder / STATE_FILE, {"state": self.state, "agreed_on": self.agreed_on, "why": self.why})

    def progress(self) -> dict[str, float]:
        """Say how much is done, from 0 to 1, the seconds left, and the loss; as far as they are known."""
        if self.state != "learning":
            return {}
        with suppress(OSError, ValueError, IndexError):  # a line or a file of it may just be coming or going
            self._series = read_series(self.work.run("decoder"))
        times, losses = self._series.get(TIMER), self._series.get(LOSS)
        if not times or not self.total:
            return {}
        done, seconds = times[-1][0] + 1, sum(each for _, each in times) / len(times)
        found = {"done": min(done / self.total, 1.0), "left_s": max(self.total - done, 0) * seconds}
        return found | ({"loss": losses[-1][1]} if losses else {})

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        about = {"id": self.id, "name": self.name, "state": self.state, "why": self.why, "missing": self.missing}
        about |= {"frames": self.num_frames, "sheet": self.sheet.exists(), "face": self.faces}
        return about | {"shown_as": self.shown_as} | self.progress()


class Learning:
    """Look at videos and learn people, one at a time.

    Args:
        root: the folder that holds them.
        targets: who can be shown, by name; people are added as soon as they have weights.
        context: what computes, as of `open_decoder`.
    """

    def __init__(self, root: Path, targets: dict[str, Target], context: str):
        self._root, self._targets, self._context = root.absolute(), targets, context
        self._people: dict[str, Learned] = {}
        self._task: asyncio.Task | None = None
        self._changing = asyncio.Lock()
        for folder in sorted(self._root.glob("*"))[:MAX_PEOPLE]:
            self._find(folder)

    def _find(self, folder: Path) -> None:
        found = made_of(folder) or {}
        if not found.get("person"):
            return
        state: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            state = read_yaml(folder / STATE_FILE) or {}
        person = Learned(folder, as_name(found["person"], "person"), str(state.get("state", "stopped")))
        person.agreed_on, person.why = str(state.get("agreed_on", "")), str(state.get("why", ""))
        self._people[person.id] = person
        self._look_at_frames(person)
        if person.film.exists():
            self._show_at_once(person)
        self._look_at_weights(person)

    async def start(self) -> None:
        """Go on with what a server was doing when it ended."""
        begun = False
        for person in self._people.values():
            if person.state in WORKING and not begun:
                begun = True
                self._begin(person)
            elif person.state in WORKING:
                person.state = "stopped" if person.state == "learning" else "failed"

    def as_json(self) -> dict[str, Any]:
        """Return everybody who is learned, and who can be shown."""
        return {"people": [person.as_json() for person in self._people.values()], "shown": list(self._targets)}

    def person(self, name: object) -> Learned:
        """Return a person by its name in addresses.

        Raises:
            UserError: nobody has it.
        """
        found = self._people.get(name) if isinstance(name, str) else None
        if found is None:
            raise UserError("there is nobody of that name any more; load the page again")
        return found

    def _require_idle(self) -> None:
        busy = next((person for person in self._people.values() if person.process is not None), None)
        if busy is not None or (self._task is not None and not self._task.done()):
            who = busy.name if busy else "somebody"
            raise UserError(f"one at a time: {who} is being worked on; stop that first, or wait for it")

    # -- what the page asks for

    async def look(self, video: Path, name: str, has_agreed: bool) -> Learned:
        """Take a video, and look whether it serves.

        Raises:
            UserError: nobody agreed, there is no room, or others are being learned.
        """
        async with self._changing:
            self._require_idle()
            if has_agreed is not True:
                raise UserError("tick that the person filmed has agreed")
            if len(self._people) >= MAX_PEOPLE:
                raise UserError(f"{MAX_PEOPLE} people are there already; remove one first")
            self._root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._root).free < MIN_FREE_BYTES:
                raise UserError("the disk has too little room to learn somebody")
            folder = self._root / secrets.token_hex(8)
            folder.mkdir()
            await asyncio.to_thread(shutil.move, video, folder / VIDEO)
            person = Learned(folder, as_name(name, "person"), "looking", date.today().isoformat())
            person.keep()
            self._people[person.id] = person
            self._begin(person)
            return person

    async def learn(self, person: Learned) -> None:
        """Begin to train, or go on with it.

        Raises:
            UserError: the person cannot be learned, or others are.
        """
        async with self._changing:
            self._require_idle()
            if person.state not in ("looked", "stopped", "failed") or not person.num_frames:
                raise UserError(f"{person.name} cannot be learned (any more)")
            person.state = "learning"
            person.keep()
            self._begin(person)

    async def stop(self, person: Learned) -> None:
        """Ask a person's process to stop; it writes a checkpoint first."""
        if person.process is not None:
            with suppress(ProcessLookupError):
                person.process.send_signal(signal.SIGTERM)

    async def remove(self, person: Learned) -> None:
        """Remove a person with everything that was made of it."""
        await self.stop(person)
        if person.process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), END_S)
        if person.process is not None:
            raise UserError(f"{person.name} is still being worked on; try again")
        async with self._changing:
            if self._people.pop(person.id, None) is not None:
                self._targets.pop(person.shown_as, None)
                await asyncio.to_thread(remove_folder, person.folder)

    # -- the process

    def _begin(self, person: Learned) -> None:
        person.why = ""
        self._task = asyncio.create_task(self._run(person))

    async def _run(self, person: Learned) -> None:
        """Run a person's process to its end, and watch what comes of it."""
        try:
            exit_code = BUSY
            for _ in range(BUSY_TRIES):
                exit_code = await self._run_process(person)
                if exit_code != BUSY:
                    break
                await asyncio.sleep(BUSY_WAIT_S)
            was_looking = person.state == "looking"
            await asyncio.to_thread(self._look_at_frames, person)
            if exit_code == 0 and was_looking:
                await asyncio.to_thread(self._show_at_once, person)
            await asyncio.to_thread(self._look_at_weights, person)
            if exit_code == 0:
                person.state = "looked" if was_looking else "done"
            elif exit_code in (*STOPPED, -signal.SIGTERM):  # the last, before it had begun
                person.state = "failed" if was_looking else "stopped"
                person.why = person.why or ("stopped before the faces were cut out" if was_looking else "")
            else:
                person.state, person.why = "failed", _last_words(person)
        except UserError as error:
            person.state, person.why = "failed", one_line(error)
        finally:
            remove(person.folder / VIDEO)
            with suppress(OSError):
                person.keep()

    async def _run_process(self, person: Learned) -> int:
        """Return the exit code."""
        ends = end_with(os.getpid())

        def prepare() -> None:
            os.nice(LOW_PRIORITY)
            ends()

        args = ["--work-dir", str(person.folder)]
        if person.state == "looking":
            args = [str(person.folder / VIDEO), "--name", person.name, "--look", *args]
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
                    person.why = f"not done after {MAX_LEARN_S / 3600:.0f} hours"
                    await self.stop(person)
        finally:
            person.process = None

    # -- what is on the disk

    def _look_at_frames(self, person: Learned) -> None:
        """Find out how many frames a person has, and what they lack."""
        work = person.work
        with suppress(UserError, OSError):
            landmarks = read_person(work.root(person.name), person.name, "all").landmarks
            person.num_frames, person.missing = len(landmarks), what_is_missing(landmarks)

    def _show_at_once(self, person: Learned) -> None:
        """Let a person be shown by a film of all its frames, until a decoder has learned it."""
        with suppress(UserError, OSError):
            if not person.film.exists():
                write_film(person.film, film_of(person.work.root(person.name), person.name, "all"))
            person.shown_as = person.shown_as or free_name(person.name, self._targets)
            self._targets[person.shown_as] = instant_target(person.film, person.name)

    def _look_at_weights(self, person: Learned) -> None:
        """Let a person be shown by its newest weights, and paint a frame that it did not learn from."""
        work = person.work
        if not person.total:
            with suppress(UserError, OSError):
                names = read_person(work.root(person.name), person.name, "train").names
                person.total = total_iterations(work, "decoder", {person.name: len(names)})
        with suppress(UserError, OSError):
            target = target_of(work.run("decoder") / INFO_FILE)
            person.shown_as = person.shown_as or free_name(person.name, self._targets)
            self._targets[person.shown_as] = target
            if target.decoder.weights == person.weights:
                return
            person.weights = target.decoder.weights
            person.face, person.faces = self._paint(person, target), person.faces + 1

    def _paint(self, person: Learned, target: Target) -> bytes:
        """Lay the painted frame beside the real one, as a JPEG; of the held-out frames, the one of the widest eyes."""
        root = person.work.root(person.name)
        test = read_person(root, person.name, "test")
        opening = np.abs(test.landmarks[:, [62, 70], 1] - test.landmarks[:, [66, 74], 1]).mean(axis=1)
        number = int(opening.argmax())
        real = read_frame(root, person.name, test.names[number])
        return jpeg(side_by_side([real, portrait(target, self._context, test.landmarks[number])]))


def _last_words(person: Learned) -> str:
    """Return why a process failed: its first error, else its last line; without the server's own paths."""
    with open(person.folder / LOG_FILE, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(size - LOG_TAIL, person.log_start))
        lines = log.read().decode(errors="replace").replace("\r", "\n").split("\n")
    errors = [line for line in lines if line.startswith("error: ")]
    words = next((line for line in (*errors, *reversed(lines)) if line.strip()), "it ended without a word")
    video = str(person.folder / VIDEO)
    return one_line(words.removeprefix("error: ").replace(video, "the video").replace(f"{person.folder}/", ""))
