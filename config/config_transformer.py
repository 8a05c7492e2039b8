"""Defaults of train_transformer.py, and what each value may be. A --conf file overrides single keys."""

from config.common import (
    GAN_HEAD,
    GAN_MONITOR,
    GAN_TEST,
    LOADING,
    MAX_EPOCHS,
    MAX_PLANES,
    MAX_WEIGHT,
    SAVED_WEIGHTS,
    above,
    between,
    even,
    odd,
    one_of,
    shared_rules,
)

config = {
    **GAN_HEAD,
    "src_celeb_name": "Kathleen",  # A, whose motion drives
    "src_celeb_names": [],  # several people instead, who share the way to the target (the authors: four)
    "norm_type": "batch_norm",  # batch_norm | instance_norm
    "model": {"planes": 64},  # base channels of generators and discriminators
    "preprocess": {  # how boundaries are drawn where ref_dir is ''
        "gaussian_kernel": 5,
        "gaussian_sigma": 3.0,
        "line_thickness": 3,
    },
    "train": {
        **LOADING,
        **SAVED_WEIGHTS,
        "epochs": 200,
        "batch_size": 32,
        "lr": 5.0e-5,  # of the generators; the discriminators' is half of it
        "beta1": 0.5,
        "beta2": 0.999,
        "weight_decay": 1.0e-4,  # of the discriminators
        "edge_enhancement": False,  # discriminators see heatmaps through a Sobel pair (the authors: on)
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
    "test": GAN_TEST,
    "monitor": GAN_MONITOR,
}

rules = {
    **shared_rules(config),
    "norm_type": one_of("batch_norm", "instance_norm"),
    "model.planes": even(2, MAX_PLANES),
    "preprocess.gaussian_kernel": odd(31),
    "preprocess.gaussian_sigma": above(0, 100),
    "preprocess.line_thickness": between(1, 64),
    "train.cycle_loss.lambda": between(0, MAX_WEIGHT),
    "train.shape_loss.lambda": between(0, MAX_WEIGHT),
    "train.warm_start.epochs": between(0, MAX_EPOCHS),
    "train.warm_start.lr": above(0, 1e38),
    "train.warm_start.lambda": between(0, MAX_WEIGHT),
}
