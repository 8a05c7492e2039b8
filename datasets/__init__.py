"""Data: boundary drawing, WFLW, CelebV, batches and checks. Data sets themselves are unpacked in this folder."""
