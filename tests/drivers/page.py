"""Run app.py, with tests/drivers/learn.py instead of reenact_people.py: page.py PREPARED [app.py's options]."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.ending import call_main

import app
from web import learning

learning.COMMAND = [sys.executable, str(Path(__file__).with_name("learn.py")), sys.argv.pop(1)]
learning.WATCH_S = 0.2
call_main(app.main)
