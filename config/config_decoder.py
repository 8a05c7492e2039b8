"""Defaults of train_decoder.py, and what each value may be. A --conf file overrides single keys."""

from config.rules import above, at_least, fraction, one_of, some_of

VGG_LAYERS = tuple(f"relu{block}_{i}" for block in range(1, 6) for i in range(1, 3 if block < 3 else 4))

config = {
    "context": "auto",  # auto | cpu | cudnn
    "device_id": 0,
    "experiment_name": "",  # of the run; '' names it by date and time
    "seed": 42,
    "logdir": "tmp.monitor",
    "trg_celeb_name": "Donald_Trump",  # B, who is shown
    "train_dir": "datasets/CelebV",  # the folder that holds the people
    "mode": "all",  # all | train | test: which annotation list is trained on
    "boundary": "landmarks",  # landmarks | encoder: where boundaries come from; encoder needs ref_dir (README)
    "ref_dir": "",  # prepared npz files; '' draws on the fly
    "model": {"planes": 64},  # base channels of generator and discriminator
    "train": {
        "epochs": 150,
        "lr_decay_start_at": 100,  # epoch from which the rate falls linearly, to 0 at the end
        "batch_size": 32,
        "lr": 2.0e-4,
        "beta1": 0.5,
        "shuffle": True,
        "augmentation": False,  # turn, zoom, move and mirror faces and landmarks at random (the authors: on)
        "with_memory_cache": False,  # keep decoded samples in memory
        "num_workers": -1,  # processes that prepare batches ahead; 0 none, -1 one for each core but one, 8 at most
        "weight_L1": 100.0,
        "feature_loss": {
            "lambda": 10.0,  # 0 does without VGG-16
            "layers": ["relu2_2", "relu3_3"],  # of relu1_1 to relu5_3
        },
        # Ours: epochs before the adversarial loss comes in; the paper's recipe has it from the start (0).
        "gan_start_at": 0,
    },
    "test": {
        "batch_size": 1,
        "batch_stat": False,  # normalise by the batch, not by running statistics (the authors: on)
        "logdir": "tmp.result",
        "vis_interval": 1,
    },
    "monitor": {
        "interval": 500,  # iterations between loss values and sample pictures
        "save_interval": 10,  # epochs between saved weights
    },
}

rules = {
    "context": one_of("auto", "cpu", "cudnn"),
    "device_id": at_least(0),
    "seed": at_least(0),
    "mode": one_of("all", "train", "test"),
    "boundary": one_of("landmarks", "encoder"),
    "model.planes": at_least(1),
    "train.epochs": at_least(1),
    "train.lr_decay_start_at": at_least(0),
    "train.batch_size": at_least(1),
    "train.lr": above(0),
    "train.num_workers": at_least(-1),
    "train.beta1": fraction(),
    "train.weight_L1": at_least(0),
    "train.feature_loss.lambda": at_least(0),
    "train.feature_loss.layers": some_of(*VGG_LAYERS),
    "train.gan_start_at": at_least(0),
    "test.batch_size": at_least(1),
    "test.vis_interval": at_least(1),
    "monitor.interval": at_least(1),
    "monitor.save_interval": at_least(1),
}
