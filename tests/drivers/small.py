"""Run a script with trainings of seconds, on short videos, too: small.py SCRIPT ITERATIONS [its own options]."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.ending import call_main

from people import recipe, steps, work
from web import learning

of = recipe.config_of


def narrow(work, module, num_train):
    """Describe a training of the narrowest networks."""
    config = of(work, module, num_train)
    if "model" in config:
        config["model"]["planes"] = 2
        config.pop("finetune", None)  # what ships is wider
    if "warm_start" in config["train"]:  # an epoch of it, and one after it
        config["train"]["warm_start"]["epochs"] = 1
        config["train"]["epochs"] = 2
    if module == "shape_prior":
        config["train"]["epochs"] = 1
    return config


script, iterations = sys.argv.pop(1), sys.argv.pop(1)
recipe.config_of = narrow
work.QUALITIES["draft"] = work.Quality("draft", planes=2, batch_size=2, iterations=int(iterations), lr=2e-3)
steps.MIN_FRAMES = 12
learning.COMMAND = [sys.executable, __file__, "reenact_people", iterations]
call_main(importlib.import_module(script).main)
