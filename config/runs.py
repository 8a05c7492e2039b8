"""File names in a run's folder."""

INFO_FILE = "training_info.yaml"
GEOMETRY_FILE = "face_98pt.txt"  # shape of a decoder's person
HELD_OUT_FILE = "held_out.json"  # measures on held-out frames
BEST_FILE = "model_best.h5"  # weights of the best epoch by validation
