"""Trainings' common parts: set-up, updates, plan, run, checkpoints, resume. The loops are in the scripts."""
