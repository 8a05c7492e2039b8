"""Defaults of train_decoder.py, and what each value may be. A --conf file overrides single keys."""

from config.common import (
    GAN_HEAD,
    GAN_MONITOR,
    GAN_TEST,
    LOADING,
    MAX_EPOCHS,
    MAX_WEIGHT,
    SAVED_WEIGHTS,
    above,
    between,
    shared_rules,
    some_of,
)
from models.vgg import LAYERS

config = {
    **GAN_HEAD,
    "finetune": {"param_path": ""},  # the generator's weights to start from; '' starts from scratch
    "model": {"planes": 64},  # base channels of generator and discriminator
    "train": {
        **LOADING,
        **SAVED_WEIGHTS,
        "epochs": 150,
        "lr_decay_start_at": 100,  # epoch from which the rate falls linearly, to 0 at the end
        "batch_size": 32,
        "lr": 2.0e-4,
        "beta1": 0.5,
        "weight_L1": 100.0,
        "feature_loss": {
            "lambda": 10.0,  # 0 does without VGG-16
            "layers": ["relu2_2", "relu3_3"],  # of relu1_1 to relu5_3
        },
        # Ours, for sharp faces without combs (docs/TRAINING.md)
        "detail_loss": {
            "lambda": 0.0,  # that each part of a face has as much fine detail as the true one's
            "blur": 0.7,  # of both before, in pixels, so that a comb of two pixels is no detail
            "start_at": 0,  # epochs before it comes in
        },
        "discriminator": {
            "lr_factor": 1.0,  # its rate as a share of the generator's
            "blur": 0.0,  # of what it sees of faces, in pixels: it cannot ask for what is finer
        },
        # Ours: epochs before the adversarial loss comes in; the paper's recipe has it from the start (0).
        "gan_start_at": 0,
    },
    "test": GAN_TEST,
    "monitor": GAN_MONITOR,
}

rules = {
    **shared_rules(config),
    "train.lr_decay_start_at": between(0, MAX_EPOCHS),
    "train.weight_L1": between(0, MAX_WEIGHT),
    "train.feature_loss.lambda": between(0, MAX_WEIGHT),
    "train.feature_loss.layers": some_of(*LAYERS),
    "train.detail_loss.lambda": between(0, MAX_WEIGHT),
    "train.detail_loss.blur": between(0, 8),
    "train.detail_loss.start_at": between(0, MAX_EPOCHS),
    "train.discriminator.lr_factor": above(0, 10),
    "train.discriminator.blur": between(0, 8),
    "train.gan_start_at": between(0, MAX_EPOCHS),
}
