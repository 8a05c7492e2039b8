"""Defaults of train_encoder.py, and what each value may be. A --conf file overrides single keys."""

from config.rules import above, at_least, even, one_of, only

config = {
    "context": "auto",  # auto | cpu | cudnn
    "device_id": 0,
    "experiment_name": "",  # of the run; '' names it by date and time
    "seed": 42,
    "logdir": "./tmp.monitor",
    "model_name": "model",  # the folder of the weights within a run
    "loss_name": "mse",  # mse | bce
    "path": {"data_dir": "datasets/WFLW_heatmaps"},  # what preprocess.py wrote
    "finetune": {"param_path": ""},  # weights to start from; '' starts from scratch
    "model": {
        "planes": 64,  # base channels
        "num_stacks": 2,
        "output_nc": 15,
        "activation": "tanh",  # no effect; published files carry it
    },
    "train": {
        "epochs": 500,
        "batch_size": 32,
        "lr": 1.0e-3,
        "weight_decay": 1.0e-5,
        "augmentation": False,  # turn, zoom, move and mirror faces and landmarks at random (the authors: on)
        "with_memory_cache": False,  # keep decoded samples in memory
        "num_workers": -1,  # processes that prepare batches ahead; 0 none, -1 one for each core but one, 8 at most
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
    "context": one_of("auto", "cpu", "cudnn"),
    "device_id": at_least(0),
    "seed": at_least(0),
    "loss_name": one_of("mse", "bce"),
    "model.planes": even(2),
    "model.num_stacks": at_least(1),
    "model.output_nc": only(15, "the number of boundaries"),
    "train.epochs": at_least(1),
    "train.batch_size": at_least(1),
    "train.lr": above(0),
    "train.num_workers": at_least(-1),
    "train.weight_decay": at_least(0),
    "test.batch_size": at_least(1),
    "monitor.interval": at_least(1),
    "monitor.save_interval": at_least(1),
}
