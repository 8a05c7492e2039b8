"""Defaults of train_shape_prior.py, and what each value may be. A --conf file overrides single keys."""

from config.common import LOADING, MAX_BATCH, PEOPLE_HEAD, between, one_of, shared_rules

config = {
    **PEOPLE_HEAD,  # of WFLW, mode is train or test
    "dataset": "CelebV",  # CelebV | WFLW: whose landmarks are learned from
    "celeb_names": [],  # of CelebV; [] is everyone found
    "data_dir": "datasets/WFLW_heatmaps",  # of WFLW: what preprocess.py wrote
    "train": {
        **LOADING,
        "augmentation": True,
        "epochs": 20,
        "batch_size": 32,
        "lr": 1.0e-3,
    },
    "monitor": {"interval": 100},  # iterations between loss values
}

rules = {
    **shared_rules(config),
    "dataset": one_of("CelebV", "WFLW"),
    "train.batch_size": between(2, MAX_BATCH),
}
