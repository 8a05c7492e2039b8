"""Loaders: boundary drawing, WFLW, CelebV and synthetic people. Data itself is unpacked beside them."""
