"""Habits of those who come from the public NNabla port: its configuration files, keys and flags."""

from __future__ import annotations
from training.training import _parse_args

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, call_script, load, must_fail, must_run

import preprocess
import test_reenactment as reenactment
from config import CLASSES, MODULE_KEY, Config, to_dict, with_values
from utils.cli import parse_test_args
from utils.errors import ConfigError
from utils.files import write_yaml

CACHES = {"with_memory_cache": False, "with_file_cache": False}
GAN_TEST = {**CACHES, "batch_size": 1, "logdir": "tmp.result", "vis_interval": 1}
GAN = {
    "context": "cudnn", "device_id": 0, "experiment_name": "202012010900", "logdir": "tmp.monitor", "mode": "all",
    "monitor": {"interval": 500, "save_interval": 10}, "ref_dir": "", "test": GAN_TEST, "train_dir": "datasets/CelebV",
    "trg_celeb_name": "Donald_Trump",
}  # fmt: skip
# all keys of the port's training_info.yaml files, with their defaults
PORT = {
    "encoder": {
        "context": "cudnn", "device_id": 0, "experiment_name": "202012010900", "logdir": "./tmp.monitor", "seed": 42,
        "finetune": {"param_path": "ReenactGAN_encoder_pretrained_weights.h5"}, "loss": {}, "loss_name": "mse",
        "model": {"activation": "tanh", "num_stacks": 2, "output_nc": 15, "planes": 64}, "model_name": "model",
        "monitor": {"interval": 1, "save_interval": 10}, "path": {"data_dir": "datasets/WFLW_heatmaps"},
        "test": {**CACHES, "batch_size": 32}, "use_reference": True,
        "train": {**CACHES, "augmentation": False, "batch_size": 32, "epochs": 500, "lr": 1e-3, "weight_decay": 1e-5},
    },
    "transformer": {
        **GAN, "norm_type": "batch_norm", "src_celeb_name": "Kathleen",
        "preprocess": {"gaussian_kernel": 5, "gaussian_sigma": 3, "line_thickness": 3, "resize_size": 64},
        "train": {
            **CACHES, "batch_size": 32, "beta1": 0.5, "beta2": 0.999, "cycle_loss": {"lambda": 50.0}, "epochs": 200,
            "lr": 5e-5, "shuffle": True, "weight_decay": 1e-4,
            "shape_loss": {"PCA_param_path": "./PCA.h5", "align_param_path": "./Align.h5", "lambda": 10.0},
        },
    },
    "decoder": {
        **GAN, "isTrain": True,
        "train": {
            **CACHES, "batch_size": 32, "beta1": 0.5, "epochs": 150, "feature_loss": {"lambda": 10}, "lr": 2e-4,
            "lr_decay_start_at": 100, "shuffle": True, "weight_L1": 100,
        },
    },
}  # fmt: skip
# keys that decide nothing here, and those with one possible value
WITHOUT_EFFECT = {"with_file_cache", "use_reference", "loss", "isTrain", "activation"}
ONLY = {"output_nc", "resize_size"}
OTHERS = {"loss_name": "bce", "mode": "train", "norm_type": "instance_norm", "context": "cpu"}


def keys_of(content: dict, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the path and the value of every key that is no section."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, (*above, name))
        else:
            yield (*above, name), value


def nested(path: tuple[str, ...], value: object) -> dict:
    for name in reversed(path):
        value = {name: value}
    return value


def value_at(config: Config, path: tuple[str, ...]) -> object:
    value = to_dict(config)
    for name in path:
        value = value[name]
    return value


def another(name: str, value: object) -> object:
    """A different valid value of a key."""
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2
    if isinstance(value, int):
        return value + 2
    return f"{value}x" if isinstance(value, str) else {}


CASES = [(module, *case) for module, content in PORT.items() for case in keys_of(content)]


@pytest.mark.parametrize("module, path, value", CASES, ids=lambda value: str(value)[:30])
def test_every_key_of_the_ports_files(tmp_path, module, path, value):
    new = another(path[-1], value)
    text = yaml.safe_dump({MODULE_KEY: module, **nested(path, new)})
    if path[-1] in ONLY:
        with pytest.raises(ConfigError, match=f"{path[-1]}: must be {value}"):
            load(tmp_path, text, module)
        new = value
        text = yaml.safe_dump({MODULE_KEY: module, **nested(path, new)})
    config = load(tmp_path, text, module)
    if path[-1] not in WITHOUT_EFFECT | ONLY and path != ("test", "with_memory_cache"):
        assert value_at(config, path) == new
    assert load(tmp_path, yaml.safe_dump({MODULE_KEY: module, **PORT[module]}), module)


def merge_as_the_port(given: dict, into: dict) -> None:
    """Merge a file over defaults as the port's loader does: a section must exist there."""
    for name, value in given.items():
        if isinstance(value, dict):
            merge_as_the_port(value, into[name])
        else:
            into[name] = value


@pytest.mark.parametrize("module", PORT)
def test_the_ports_loader_reads_our_training_info(module):
    info = yaml.safe_load(yaml.safe_dump(to_dict(CLASSES[module](), all_sections=False)))
    merged = copy.deepcopy(PORT[module])
    merge_as_the_port(info, merged)
    for path, value in keys_of(PORT[module]):
        found = merged
        for name in path:
            found = found[name]
        assert type(found) in (type(value), float), path
    with pytest.raises(KeyError):
        merge_as_the_port(to_dict(CLASSES[module]()), copy.deepcopy(PORT[module]))


def test_a_section_that_the_port_does_not_have_is_written_if_it_was_changed():
    config = with_values(CLASSES["decoder"](), {"model": {"planes": 12}})
    info = to_dict(config, all_sections=False)
    assert info["model"]["planes"] == 12 and "finetune" not in info and "discriminator" not in info["train"]


@pytest.mark.parametrize(
    "module, section, value",
    [
        ("decoder", "train.feature_loss", ("lambda", 0)), ("decoder", "train.gan_loss", ("lambda", 0)),
        ("transformer", "train.cycle_loss", ("lambda", 0)), ("transformer", "train.shape_loss", ("lambda", 0)),
        ("transformer", "train.gan_loss", ("lambda", 0)), ("transformer", "train.warm_start", ("epochs", 0)),
        ("transformer", "finetune", ("param_path", "")), ("encoder", "finetune", ("param_path", "")),
    ],
)  # fmt: skip
def test_null_switches_off(tmp_path, module, section, value):
    path = (*section.split("."), value[0])
    (tmp_path / "before.yaml").write_text(yaml.safe_dump(nested(path, "x.h5" if value[1] == "" else 7)))
    config = load(tmp_path, yaml.safe_dump(nested(path[:-1], None)), module)
    assert value_at(config, path) == value[1]


def test_null_without_weight_decay(tmp_path):
    assert load(tmp_path, "train: {weight_decay: null}", "transformer").train.weight_decay == 0


@pytest.mark.parametrize("module", CLASSES)
@pytest.mark.parametrize("section", ["train", "test", "monitor", "model", "path", "preprocess", "train.discriminator"])
def test_null_is_refused_elsewhere(tmp_path, module, section):
    path = tuple(section.split("."))
    with pytest.raises(ConfigError, match=f"{section}: must be a section of keys, not None|unknown key"):
        load(tmp_path, yaml.safe_dump(nested(path, None)), module)


def arguments(monkeypatch, parse, *argv: object):
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, argv)])
    return parse()


@pytest.mark.parametrize("argv", [("--config", "own.yaml"), ("--info", "x"), ()])
def test_flags_of_the_trainings(monkeypatch, argv):
    args = arguments(monkeypatch, lambda: _parse_args(""), *argv)
    assert args.conf == (["own.yaml"] if "own.yaml" in argv else [])
    assert args.info == ("x" if "x" in argv else "")


@pytest.mark.parametrize("argv", [("--num-test", 3), ("-n", 3), ("--param-file", "x.h5")])
def test_flags_of_the_tests(monkeypatch, argv):
    args = arguments(monkeypatch, lambda: parse_test_args(""), "training_info.yaml", *argv)
    assert args.training_info == Path("training_info.yaml")
    assert (args.num_test, args.param_file) == ((3, None) if 3 in argv else (None, Path("x.h5")))


def test_flags_of_the_reenactment(monkeypatch):
    given = {f"--{module}-{what}": f"{module}.x" for module in PORT for what in ("config", "param-file")}
    given |= {"--src-celeb-name": "Kathleen", "--trg-celeb-name": "Donald_Trump", "--info": "x"}
    args = arguments(monkeypatch, reenactment.parse_args, *(word for flag in given.items() for word in flag))
    assert {f"--{name.replace('_', '-')}": str(value) for name, value in vars(args).items()}.items() >= given.items()


# flag, text and value
PREPROCESS = [
    ("--dataset", "WFLW", "WFLW"), ("--mode", "test", "test"), ("--src-dir", "x", Path("x")),
    ("--celeb-name-list", "Kathleen", ["Kathleen"]), ("--out-dir", "x", Path("x")), ("--resize-size", "64", 64),
    ("--line-thickness", "5", 5), ("--gaussian-kernel", "7", 7), ("--gaussian-sigma", "4", 4),
]  # fmt: skip


@pytest.mark.parametrize("flag, text, value", PREPROCESS)
def test_flags_of_preprocess(monkeypatch, flag, text, value):
    args = arguments(monkeypatch, preprocess.parse_args, flag, text, "--save-boundary-image")
    assert getattr(args, flag[2:].replace("-", "_")) == value and args.save_boundary_image


def test_defaults_of_preprocess(monkeypatch):
    args = arguments(monkeypatch, preprocess.parse_args)
    assert (args.dataset, args.mode, args.src_dir) == ("CelebV", None, Path("datasets"))
    assert args.out_dir == Path("datasets/celebv_heatmaps_GT")
    assert arguments(monkeypatch, preprocess.parse_args, "--dataset", "WFLW").out_dir == Path("datasets/WFLW_heatmaps")


@pytest.mark.parametrize(
    "argv, words",
    [
        (("--resize-size", "(32,32)"), "--resize-size"), (("--gaussian-kernel", "4"), "gaussian_kernel: must be"),
        (("--line-thickness", "0"), "line_thickness: must be"), (("--gaussian-sigma", "x"), "--gaussian-sigma"),
    ],
)  # fmt: skip
def test_wrong_values_of_preprocess(tmp_path, argv, words):
    (tmp_path / "datasets/CelebV/Ada/Image").mkdir(parents=True)
    (tmp_path / "datasets/CelebV/Ada/all_98pt.txt").write_text("")
    must_fail(tmp_path, 2, words, "preprocess.py", *argv)


@pytest.mark.slow
def test_thicker_lines_are_trained_only_with_a_configuration_that_says_so(data, tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/CelebV").symlink_to(data / "datasets/CelebV")
    must_run(tmp_path, "preprocess.py", "--line-thickness", 5, "--celeb-name-list", "Linnea")
    train = {"epochs": 1, "batch_size": 7, "feature_loss": None}
    content = {"trg_celeb_name": "Linnea", "model": {"planes": 2}, "train": train, "experiment_name": "run",
               "ref_dir": "datasets/celebv_heatmaps_GT"}  # fmt: skip
    write_yaml(tmp_path / "thin.yaml", content)
    words = "Linnea is prepared with 'drawing: gaze, line_thickness 5', not 'gaze'"
    must_fail(tmp_path, 3, words, "train_decoder.py", "--conf", "thin.yaml", "--dry-run")
    write_yaml(tmp_path / "thick.yaml", {"preprocess": {"line_thickness": 5}})
    call_script(monkeypatch, tmp_path, "train_decoder.py", "--conf", "thin.yaml", "thick.yaml", "--info", "x")
    info = yaml.safe_load((tmp_path / "tmp.monitor/decoder/Linnea/runx/training_info.yaml").read_text())
    assert info["preprocess"]["line_thickness"] == 5 and info["train"]["feature_loss"]["lambda"] == 0
    nets = [x for module in ("encoder", "transformer") for x in (f"--{module}-config", ROOT / f"demo/weights/{module}")]
    nets = [path / "training_info.yaml" if isinstance(path, Path) else path for path in nets]
    files = [
        x for m in ("encoder", "transformer") for x in (f"--{m}-param-file", ROOT / f"demo/weights/{m}/weights.h5")
    ]
    decoder = ("--decoder-config", "tmp.monitor/decoder/Linnea/runx/training_info.yaml")
    must_fail(tmp_path, 2, "on 'gaze, line_thickness 5'", "test_reenactment.py", *nets, *files, *decoder)
