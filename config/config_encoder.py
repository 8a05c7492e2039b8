"""Defaults of train_encoder.py, and what each value may be. A --conf file overrides single keys."""

from config.common import HEAD, LOADING, MAX_PLANES, between, even, one_of, shared_rules

config = {
    **HEAD,
    "model_name": "model",  # the folder of the weights within a run
    "loss_name": "mse",  # mse | bce
    "dataset": "WFLW",  # WFLW | CelebV: whose faces are learned from
    "path": {"data_dir": "datasets/WFLW_heatmaps"},  # of WFLW: what preprocess.py wrote
    "train_dir": "datasets/CelebV",  # of CelebV: the folder that holds the people
    "mode": "train",  # of CelebV: train, validated on test; or all, validated on the same
    "celeb_names": [],  # of CelebV; [] is everyone found
    "finetune": {"param_path": ""},  # weights to start from; '' starts from scratch
    "model": {
        "planes": 64,  # base channels
        "num_stacks": 2,
    },
    "train": {
        **LOADING,
        "epochs": 500,
        "batch_size": 32,
        "lr": 1.0e-3,
        "weight_decay": 1.0e-5,
    },
    "test": {
        "batch_size": 32,  # of the validation
        "batch_stat": False,  # reenactment: normalise by the batch, not by running statistics (the authors: on)
    },
    "monitor": {
        "interval": 1,  # epochs between sample pictures
        "save_interval": 10,  # epochs between saved weights
    },
}

rules = {
    **shared_rules(config),
    "loss_name": one_of("mse", "bce"),
    "dataset": one_of("WFLW", "CelebV"),
    "mode": one_of("train", "all"),
    "model.planes": even(2, MAX_PLANES),
    "model.num_stacks": between(1, 8),
}
