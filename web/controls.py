"""The controls of the page: `page.html` displays them, `page.js` sends their values, `read_controls` checks them."""

from __future__ import annotations

from typing import Any, NamedTuple

from faces.motion import MAX_STRENGTH
from faces.steady import MAX_SMOOTH, SMOOTH
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
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            is_valid, words = is_number and 0 <= value <= self.maximum, f"a number from 0 to {self.maximum:g}"
        else:
            is_valid, words = isinstance(value, bool), "true or false"
        if not is_valid:
            raise UserError(f"{self.name} must be {words}")
        return value


MOTIONS = {"all": "everything", "expression": "expression", "pose": "head pose", "eyes": "eyes", "lips": "mouth"}
LAYOUTS = {"side-by-side": "source and result", "panel": "source, boundaries and result", "face": "result"}
CONTROLS = (
    Control("motion", ("live", "video"), "Motion", "all", choices=MOTIONS),
    Control("strength", ("live", "video"), "Strength", 1.0, maximum=MAX_STRENGTH),
    Control("smooth", ("live",), "Smoothing", SMOOTH, maximum=MAX_SMOOTH, step=0.05),
    Control("layout", ("video",), "Show", "side-by-side", choices=LAYOUTS),
    Control("label", ("video",), "Label 'synthetic'", True),
)


def read_controls(tab: str, message: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a tab's controls, or their defaults. Raises UserError if a value is invalid."""
    controls = (control for control in CONTROLS if tab in control.tabs)
    return {control.name: control.read(message.get(control.name, control.default)) for control in controls}
