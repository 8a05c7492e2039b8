"""Defaults of train_shape_prior.py, and what each value may be. A --conf file overrides single keys."""

from config.rules import above, at_least, one_of

config = {
    "context": "auto",  # auto | cpu | cudnn
    "device_id": 0,
    "experiment_name": "",  # of the run; '' names it by date and time
    "seed": 42,
    "logdir": "tmp.monitor",
    "dataset": "CelebV",  # CelebV | WFLW: whose landmarks are learned from
    "train_dir": "datasets/CelebV",  # the folder that holds the people
    "celeb_names": [],  # of CelebV; [] is everyone found
    "mode": "all",  # all | train | test: which annotation list is trained on; of WFLW train or test
    "data_dir": "datasets/WFLW_heatmaps",  # of WFLW: what preprocess.py wrote
    "train": {
        "epochs": 20,
        "batch_size": 32,
        "lr": 1.0e-3,
        "shuffle": True,
        "augmentation": True,  # turn, zoom, move and mirror landmarks at random
        "with_memory_cache": False,  # keep drawn samples in memory
        "num_workers": -1,  # processes that prepare batches ahead; 0 none, -1 one for each core but one, 8 at most
    },
    "monitor": {"interval": 100},  # iterations between loss values
}

rules = {
    "context": one_of("auto", "cpu", "cudnn"),
    "device_id": at_least(0),
    "seed": at_least(0),
    "dataset": one_of("CelebV", "WFLW"),
    "mode": one_of("all", "train", "test"),
    "train.epochs": at_least(1),
    "train.batch_size": at_least(2),
    "train.lr": above(0),
    "train.num_workers": at_least(-1),
    "monitor.interval": at_least(1),
}
