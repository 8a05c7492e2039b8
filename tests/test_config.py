import pytest
import yaml
from conftest import ROOT

from config import load_config
from utils.errors import ConfigError


@pytest.mark.parametrize("module", ["encoder", "transformer", "decoder"])
def test_published_training_info_is_accepted_in_full(module):
    path = ROOT / "tests" / "data" / "training_info" / f"{module}.yaml"
    config = load_config(module, path)
    published = yaml.safe_load(path.read_text())
    assert config["context"] == "cudnn"
    assert config["experiment_name"] == "202012010900"
    assert config["train"]["lr"] == published["train"]["lr"]
    assert config["model"]["planes"] == 64


def test_published_keys_are_those_of_the_defaults():
    """Every key of a published file is either a default's or listed as one without effect."""
    from config import MODULE_KEY
    from config.common import KEYS_WITHOUT_EFFECT

    for module in ("encoder", "transformer", "decoder"):
        published = yaml.safe_load((ROOT / "tests" / "data" / "training_info" / f"{module}.yaml").read_text())
        defaults = load_config(module)

        def keys(tree, prefix=""):
            for key, value in tree.items():
                yield f"{prefix}{key}"
                if isinstance(value, dict) and value:
                    yield from keys(value, f"{prefix}{key}.")

        known = {*keys(defaults), *KEYS_WITHOUT_EFFECT[module], MODULE_KEY}
        assert set(keys(published)) <= known


def load(tmp_path, text: str, module: str = "decoder") -> dict:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return load_config(module, path)


def test_single_keys_override_defaults(tmp_path):
    config = load(tmp_path, "train: {lr: 1e-4, weight_L1: 10}\nseed: 7")
    assert config["train"]["lr"] == 1e-4  # PyYAML alone would give the text '1e-4'
    assert config["train"]["weight_L1"] == 10.0 and config["train"]["epochs"] == 150 and config["seed"] == 7
    assert load_config("decoder")["seed"] == 42  # the defaults themselves stay as they are


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load(tmp_path, "") == load_config("decoder")


@pytest.mark.parametrize(
    "text, words",
    [
        ("trian: {lr: 1}", "unknown key 'trian'; did you mean 'train'?"),
        ("train: {epohcs: 3}", "unknown key 'train.epohcs'; did you mean 'train.epochs'?"),
        ("train: {zzz: 3}", "unknown key 'train.zzz'; known here:"),
        ("train: 3", "train: must hold keys of its own"),
        ("train: {lr: fast}", "train.lr: must be a finite number"),
        ("train: {lr: .nan}", "train.lr: must be a finite number"),
        ("train: {lr: 0}", "train.lr: must be above 0"),
        ("train: {epochs: 1.5}", "train.epochs: must be a whole number"),
        ("train: {epochs: true}", "train.epochs: must be a whole number"),
        ("train: {batch_size: 0}", "train.batch_size: must be from 1 to 4096"),
        ("train: {shuffle: 1}", "train.shuffle: must be true or false"),
        ("train: {beta1: 1.0}", "train.beta1: must be from 0 to below 1"),
        ("trg_celeb_name: 5", "trg_celeb_name: must be a text"),
        ("context: gpu", "context: must be one of auto, cpu, cudnn"),
        ("mode: val", "mode: must be one of all, train, test"),
        ("seed: 1\nseed: 2", "'seed' is duplicated"),
        ("[1, 2]", "holds a list"),
        ("a: [", "not valid YAML"),
        ("isTrain: 1", "isTrain: must be a bool"),
        ("dataset_mode: encoder", "belongs to the encoder"),
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


def test_every_rule_belongs_to_a_key():
    import importlib

    from config.common import get

    for module in ("encoder", "transformer", "decoder", "shape_prior"):
        definition = importlib.import_module(f"config.config_{module}")
        for key, rule in definition.rules.items():
            assert rule.holds(get(definition.config, key)), key
