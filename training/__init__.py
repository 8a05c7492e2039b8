"""Trainings' common parts: set-up, updates, plan, run, checkpoints, resume. The loops are in the scripts."""

from utils import ending as ending  # first, for Ctrl-C while libraries are imported
