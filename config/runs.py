"""Names of files in a run's folder."""

INFO_FILE = "training_info.yaml"
GEOMETRY_FILE = "face_98pt.txt"  # what is known of the shape of a decoder's person
HELD_OUT_FILE = "held_out.json"  # what evaluate.py measured on frames that a decoder did not see
BEST_FILE = "model_best.h5"  # the weights of the best epoch by validation
