"""Synthetic people, whose landmarks and expressions are known: `people` is who and what, `painter` paints."""
