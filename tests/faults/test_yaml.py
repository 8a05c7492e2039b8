"""YAML that means something else than it seems, and keys without a value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from helpers import DEMO_NETWORKS, load, must_fail

from config import CLASSES, to_dict
from utils.errors import ConfigError, one_line


@pytest.mark.parametrize(
    "text, words",
    [
        ("Train: {lr: 1}", "did you mean 'train'"), ("TRAIN: {lr: 1}", "did you mean 'train'"),
        ("train: {Batch_Size: 1}", "did you mean 'train.batch_size'"), 
        ("seed: 2020-13-45", "not valid YAML"), ("seed: " + "9" * 5000, "seed|not valid"),
        ("a: " * 3000 + "1", "not valid YAML"), ("[" * 5000, "not valid YAML"), ("? [a]\n: 1", "not a plain scalar"),
        ("logdir: \"a\\0b\"", "logdir"), ("x: " + "y" * 2_000_000, "longer than"),
    ],
)  # fmt: skip
def test_what_yaml_takes_otherwise_than_it_is_meant(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as error:
        load(tmp_path, text)
    assert len(one_line(error.value)) <= 600


def test_a_value_of_any_size_is_named_in_a_line(tmp_path):
    text = "seed: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
    for before, after in zip("abcdefgh", "bcdefghi"):
        text += f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert len(str(error.value)) < 600


def test_zero_and_other_plain_numbers(tmp_path):
    config = load(tmp_path, "seed: 0\ntrain: {lr: 2e-4, weight_L1: 0, beta1: 0.5}\ndevice_id: 0x1\n")
    assert config.seed == 0 and config.train.lr == 2e-4 and config.device_id == 1


@pytest.mark.slow
def test_empty_words_on_the_command_line(tmp_path):
    run = "test_reenactment.py"
    must_fail(tmp_path, 2, "--input: must not be empty", run, *DEMO_NETWORKS, "--input", "")
    must_fail(tmp_path, 2, "--conf/--config: must not be empty", "train_decoder.py", "--conf", "")
    must_fail(tmp_path, 2, "--resume: must not be empty", "train_decoder.py", "--resume", "")
    must_fail(tmp_path, 2, "--dataset: must not be empty", "preprocess.py", "--dataset", "", "--check")
    must_fail(tmp_path, 2, "must be a file", "prepare_person.py", "", "--name", "Me")


@pytest.mark.parametrize(
    "module, text, key, value",
    [
        ("decoder", "ref_dir: null", "ref_dir", ""),
        ("decoder", "ref_dir:", "ref_dir", ""),
        ("decoder", "experiment_name: ~", "experiment_name", ""),
        ("transformer", "src_celeb_names: null", "src_celeb_names", ()),
    ],
)
def test_null_is_nothing_given(tmp_path, module, text, key, value):
    assert getattr(load(tmp_path, text, module), key) == value


def test_null_for_a_number(tmp_path):
    for text in ("train: {lr: null}", "seed: ~", "mode: null", "train: {feature_loss: {lambda: null}}"):
        with pytest.raises(ConfigError, match="must be"):
            load(tmp_path, text)


VALUES = """
null|~|true|false|yes|0|-0|1|-1|2|3|0.5|1.0|-1.0|1e-5|1e38|1e39|1e308|1e400|-1e400|.inf|-.inf|.nan|0x1f|0o17|0b11|017
1_000|1:30|2020-13-45|2020-01-02|''|' '|'a'|'.'|'..'|'/'|'~'|'~nobody/x'|'a/b'|"a\\0b"|"\\ud800"|'\N{SNOWMAN}'|[]|[a]
[a, a]|[1, [2]]|[null]|{}|{a: 1}|{1: 2}|{lambda: .nan}|{null: null}|&x [*x]|&y {a: *y}|*z|!!int ''|!!int 'x'|!!float ''
!!bool 'x'|!!binary 'x'|!!python/object:os.system x|!!timestamp 'x'|!!set {a}|!!omap [a]|!x y|? a|- a|"|@|`|%
{a: 1, a: 2}|!!float 'x'
"""


def keys_of(content: dict, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key, sections included."""
    for name, value in content.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*prefix, name))


@pytest.mark.parametrize("module", CLASSES)
def test_every_key_takes_a_value_or_refuses_it_in_a_line(tmp_path, module):
    values = [*VALUES.strip().replace("\n", "|").split("|"), "9" * 400, "-" + "9" * 400, "0x" + "f" * 400]
    assert len(values) > 75
    refused = taken = 0
    for keys in keys_of(to_dict(CLASSES[module]())):
        for value in values:
            text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(keys[:-1]))
            text += f"{'  ' * (len(keys) - 1)}{keys[-1]}: {value}\n"
            try:
                config = load(tmp_path, text, module)
                taken += 1
                assert load(tmp_path, yaml.safe_dump(to_dict(config)), module) == config, text
            except ConfigError as error:
                assert len(one_line(error)) <= 600
                refused += 1
            except Exception as error:
                raise AssertionError(text[:200]) from error
    assert refused > taken > 100
