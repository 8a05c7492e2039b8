"""The controls of the page: `page.html` displays them, its scripts send their values, these functions check them."""

from __future__ import annotations

from typing import Any, NamedTuple

from faces.motion import MAX_STRENGTH
from faces.steady import MAX_SMOOTH, SMOOTH
from inference.inputs import Part
from utils.cli import MAX_FACES, MAX_SECONDS
from utils.errors import UserError


class Control(NamedTuple):
    """A control: a choice, a slider from 0 to a maximum, or a check box."""

    name: str  # key of a message
    tabs: tuple[str, ...]  # live, video
    label: str
    default: Any
    choices: dict[str, str] = {}  # descriptions by value
    maximum: float = 0.0
    step: float = 0.1

    def read(self, value: Any) -> Any:
        """Check a value from a browser. Raises UserError if it is invalid."""
        if self.choices:
            is_valid, words = isinstance(value, str) and value in self.choices, f"one of {', '.join(self.choices)}"
        elif self.maximum:
            is_valid, words = is_number(value) and 0 <= value <= self.maximum, f"a number from 0 to {self.maximum:g}"
        else:
            is_valid, words = isinstance(value, bool), "true or false"
        if not is_valid:
            raise UserError(f"{self.name} must be {words}")
        return value


MOTIONS = {"all": "everything", "expression": "expression", "pose": "head pose", "eyes": "eyes", "lips": "mouth"}
LAYOUTS = {"side-by-side": "side by side", "panel": "with boundaries", "face": "only the result"}
CONTROLS = (
    Control("motion", ("live", "video"), "Motion", "all", choices=MOTIONS),
    Control("strength", ("live", "video"), "Strength", 1.0, maximum=MAX_STRENGTH),
    Control("smooth", ("live",), "Smoothing", SMOOTH, maximum=MAX_SMOOTH, step=0.05),
    Control("layout", ("video",), "Show", "side-by-side", choices=LAYOUTS),
    Control("label", ("video",), "Label 'synthetic'", True),
)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_controls(tab: str, message: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a tab's controls, or their defaults. Raises UserError if a value is invalid."""
    controls = (control for control in CONTROLS if tab in control.tabs)
    return {control.name: control.read(message.get(control.name, control.default)) for control in controls}


def read_choice(message: dict[str, Any]) -> tuple[Part | None, int | None]:
    """Return the part of a video in seconds, and the number of a face; None is all, and the default face.

    Raises UserError if they are invalid.
    """
    part, face = message.get("part"), message.get("face")
    if part is not None:
        is_pair = isinstance(part, list) and len(part) == 2 and all(map(is_number, part))
        if not is_pair or not 0 <= part[0] < part[1] <= MAX_SECONDS:
            raise UserError("part must be a start and a later end in seconds")
        part = (float(part[0]), float(part[1]))
    if face is not None and not (type(face) is int and 1 <= face <= MAX_FACES):
        raise UserError(f"face must be a number from 1 to {MAX_FACES}")
    return part, face
