import dataclasses
import subprocess
import sys

import pytest
import yaml
from helpers import ROOT

from config import CLASSES, Config, complete_config, load_config, to_dict
from config.keys import Keys
from utils.errors import ConfigError


@pytest.mark.parametrize("module", ["encoder", "transformer", "decoder"])
def test_published_training_info_is_accepted_in_full(module):
    path = ROOT / "tests" / "data" / "training_info" / f"{module}.yaml"
    config = load_config(module, path)
    published = yaml.safe_load(path.read_text())
    assert config.context == "cudnn"
    assert config.experiment_name == "202012010900"
    assert config.train.lr == published["train"]["lr"]
    assert config.model.planes == 64


def test_a_configuration_is_read_without_nnabla():
    """Nor does preprocessing need it, or the workers that it starts."""
    code = "import sys, config, preprocess; print('nnabla' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def load(tmp_path, text: str, module: str = "decoder") -> Config:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return load_config(module, path)


def test_single_keys_override_defaults(tmp_path):
    config = load(tmp_path, "train: {lr: 1e-4, weight_L1: 10}\nseed: 7")
    assert config.train.lr == 1e-4  # PyYAML alone would give the text '1e-4'
    assert config.train.weight_L1 == 10.0 and config.train.epochs == 150 and config.seed == 7
    assert load_config("decoder").seed == 42  # the defaults themselves stay as they are


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load(tmp_path, "") == load_config("decoder")


@pytest.mark.parametrize(
    "text, words",
    [
        ("trian: {lr: 1}", "unknown key 'trian'; did you mean 'train'?"),
        ("train: {epohcs: 3}", "unknown key 'train.epohcs'; did you mean 'train.epochs'?"),
        ("train: {zzz: 3}", "unknown key 'train.zzz'; known keys:"),
        ("train: 3", "train: must be a section of keys"),
        ("train: {lr: fast}", "train.lr: must be a finite number"),
        ("train: {lr: .nan}", "train.lr: must be a finite number"),
        ("train: {lr: 0}", "train.lr: must be above 0"),
        ("train: {epochs: 1.5}", "train.epochs: must be an integer"),
        ("train: {epochs: true}", "train.epochs: must be an integer"),
        ("train: {batch_size: 0}", "train.batch_size: must be between 1 and 4096"),
        ("train: {shuffle: 1}", "train.shuffle: must be true or false"),
        ("train: {beta1: 1.0}", "train.beta1: must be from 0 to below 1"),
        ("trg_celeb_name: 5", "trg_celeb_name: must be a text"),
        ("context: gpu", "context: must be one of auto, cpu, cudnn"),
        ("mode: val", "mode: must be one of all, train, test"),
        ("seed: 1\nseed: 2", "'seed' is duplicated"),
        ("[1, 2]", "contains a list"),
        ("a: [", "not valid YAML"),
        ("isTrain: 1", "isTrain: must be a bool"),
        ("dataset_mode: encoder", "is a configuration of the encoder"),
    ],
)
def test_mistakes_name_the_key_and_the_file(tmp_path, text, words):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert words in str(error.value)
    assert "own.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(ConfigError, match="no such file"):
        load_config("encoder", "nowhere.yaml")


@pytest.mark.parametrize("module", ["encoder", "transformer", "decoder", "shape_prior"])
@pytest.mark.parametrize("folder", ["config/demo", "config/demo/shipped"])
def test_shipped_configurations_are_valid(module, folder):
    for path in (ROOT / folder).glob(f"{module}*.yaml"):
        load_config(module, path)
    assert (ROOT / folder / f"{module}.yaml").exists()


@pytest.mark.parametrize("module", CLASSES)
def test_defaults_pass_their_own_rules_and_go_through_a_file(module):
    config = CLASSES[module]()
    assert complete_config(module, to_dict(config), None) == config

    def check(keys: Keys):
        for field in dataclasses.fields(keys):
            value = getattr(keys, field.name)
            if isinstance(value, Keys):
                check(value)
            else:
                assert field.metadata["rule"].holds(value), field.name

    check(config)


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config("decoder").train.lr = 1.0


def test_the_shape_prior_has_no_keys_without_effect(tmp_path):
    """They are of published files, and none of those is its own."""
    own = tmp_path / "own.yaml"
    own.write_text("train: {with_file_cache: true}")
    load_config("decoder", own)
    with pytest.raises(ConfigError, match="unknown key 'train.with_file_cache'"):
        load_config("shape_prior", own)
