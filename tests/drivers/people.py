"""Run reenact_people.py with trainings of seconds: python tests/drivers/people.py ITERATIONS [its own options]."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import reenact_people
from people import recipe, work
from utils.ending import call_main

of = recipe.config_of


def narrow(*args):
    """Describe a training of the narrowest networks."""
    config = of(*args)
    if "model" in config:
        config["model"]["planes"] = 2
        config.pop("finetune", None)  # what ships is wider
    return config


recipe.config_of = narrow
work.QUALITIES["draft"] = work.Quality(planes=2, batch_size=2, iterations=int(sys.argv.pop(1)), lr=2e-3)
call_main(reenact_people.main)
