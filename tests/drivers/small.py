"""Run a script with trainings of seconds: python tests/drivers/small.py SCRIPT ITERATIONS [its own options]."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from people import recipe, work
from utils.ending import call_main
from web import learning

of = recipe.config_of


def narrow(*args):
    """Describe a training of the narrowest networks."""
    config = of(*args)
    if "model" in config:
        config["model"]["planes"] = 2
        config.pop("finetune", None)  # what ships is wider
    return config


script, iterations = sys.argv.pop(1), sys.argv.pop(1)
recipe.config_of = narrow
work.QUALITIES["draft"] = work.Quality(planes=2, batch_size=2, iterations=int(iterations), lr=2e-3)
learning.COMMAND = [sys.executable, __file__, "learn_person", iterations]
call_main(importlib.import_module(script).main)
