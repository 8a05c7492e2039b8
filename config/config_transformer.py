"""Defaults of train_transformer.py, and what each value may be. A --conf file overrides single keys."""

from config.rules import above, at_least, different, even, fraction, odd, one_of, only

config = {
    "context": "auto",  # auto | cpu | cudnn
    "device_id": 0,
    "experiment_name": "",  # of the run; '' names it by date and time
    "seed": 42,
    "logdir": "tmp.monitor",
    "src_celeb_name": "Kathleen",  # A, whose motion drives
    "src_celeb_names": [],  # several people instead, each with networks of its own (the authors: four)
    "trg_celeb_name": "Donald_Trump",  # B, who is shown
    "train_dir": "datasets/CelebV",  # the folder that holds the people
    "mode": "all",  # all | train | test: which annotation list is trained on
    "boundary": "landmarks",  # landmarks | encoder: where boundaries come from; encoder needs ref_dir (README)
    "ref_dir": "",  # prepared npz files; '' draws on the fly
    "norm_type": "batch_norm",  # batch_norm | instance_norm
    "model": {"planes": 64},  # base channels of generators and discriminators
    "preprocess": {  # how boundaries are drawn where ref_dir is ''
        "gaussian_kernel": 5,
        "gaussian_sigma": 3.0,
        "line_thickness": 3,
        "resize_size": 64,
    },
    "train": {
        "epochs": 200,
        "batch_size": 32,
        "lr": 5.0e-5,  # of the generators; the discriminators' is half of it
        "beta1": 0.5,
        "beta2": 0.999,
        "weight_decay": 1.0e-4,  # of the discriminators
        "shuffle": True,
        "augmentation": False,  # turn, zoom, move and mirror faces and landmarks at random (the authors: on)
        "with_memory_cache": False,  # keep samples in memory
        "num_workers": -1,  # processes that prepare batches ahead; 0 none, -1 one for each core but one, 8 at most
        "edge_enhancement": False,  # discriminators see maps through a Sobel pair (the authors: on)
        "cycle_loss": {"lambda": 50.0},
        "shape_loss": {
            "lambda": 10.0,  # 0 does without the prior
            "align_param_path": "./Align_40000.h5",
            "PCA_param_path": "./PCA_weights.h5",
        },
        # Ours, not the paper's: first teach each generator its input's landmarks shifted to the other person's
        # mean, and keep that loss at weight `lambda` afterwards.
        "warm_start": {"epochs": 0, "lr": 1.0e-3, "lambda": 1.0},
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
    "src_celeb_names": different(),
    "norm_type": one_of("batch_norm", "instance_norm"),
    "model.planes": even(2),
    "preprocess.gaussian_kernel": odd(),
    "preprocess.gaussian_sigma": above(0),
    "preprocess.line_thickness": at_least(1),
    "preprocess.resize_size": only(64, "the networks' size"),
    "train.epochs": at_least(1),
    "train.batch_size": at_least(1),
    "train.lr": above(0),
    "train.num_workers": at_least(-1),
    "train.beta1": fraction(),
    "train.beta2": fraction(),
    "train.weight_decay": at_least(0),
    "train.cycle_loss.lambda": at_least(0),
    "train.shape_loss.lambda": at_least(0),
    "train.warm_start.epochs": at_least(0),
    "train.warm_start.lr": above(0),
    "train.warm_start.lambda": at_least(0),
    "test.batch_size": at_least(1),
    "test.vis_interval": at_least(1),
    "monitor.interval": at_least(1),
    "monitor.save_interval": at_least(1),
}
