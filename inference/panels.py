"""Panels of a network's test split, for test_transformer.py and test_decoder.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nnabla as nn
import numpy as np
from tqdm import tqdm

from config import with_values
from datasets.batches import Dataset, collate
from datasets.images import write_image
from datasets.panels import monitor_path, side_by_side
from inference.networks import Trained, find_trained, index_batches, load_network
from models.networks import HEATMAP_SHAPE
from utils.cli import limit_count
from utils.context import set_configured_context
from utils.files import check_writable, new_result, timestamp

Tiles = Callable[[int, tuple[np.ndarray, ...], np.ndarray], list[np.ndarray]]


def open_trained(
    module: str,
    training_info: Path,
    param_file: Path | None,
    data_dir: Path | None,
    context: str | None,
    device_id: int | None,
) -> Trained:
    """Find a run's network, and set nnabla's context. Arguments that are None are taken from the run.

    Raises ConfigError if configuration or context are invalid, WeightsError if the run has no weights.
    """
    trained = find_trained(module, training_info, param_file)
    config = trained.config
    if data_dir is not None:
        config = with_values(config, {"train_dir": str(data_dir)})
    check_writable(Path(config.test.logdir), "test.logdir")
    set_configured_context(config, context, device_id)
    return trained._replace(config=config)


def write_panels(
    module: str,
    trained: Trained,
    dataset: Dataset,
    people: str,
    tiles: Tiles,
    wanted: int | None,
    info: str,
    metadata: dict[str, str] | None = None,
) -> None:
    """Run a network on the heatmaps of a test split, and write a panel for every `test.vis_interval`-th sample.

    Args:
        dataset: samples whose last part is the heatmap (15, 64, 64).
        people: name of the parent folder.
        tiles: returns the images of a panel from the sample's index, the sample, and the output.
        wanted: number of samples; None is all.
        info: appended to the name of the result folder.
    """
    config = trained.config
    count = limit_count(wanted, len(dataset), f"the test split of {people}")
    heatmap = nn.Variable((min(config.test.batch_size, count), *HEATMAP_SHAPE))
    output = load_network(module, trained, heatmap)
    parent, name = Path(config.test.logdir) / module / people, config.experiment_name or timestamp()
    with new_result(parent, name, info) as draft, tqdm(total=count, unit="frame", disable=None) as bar:
        for indices, num_used in index_batches(count, heatmap.shape[0]):
            batch = collate(dataset[index] for index in indices)
            heatmap.d = batch[-1]
            output.forward(clear_buffer=True)
            for row, index in enumerate(indices[:num_used]):
                if index % config.test.vis_interval == 0:
                    panel = side_by_side(tiles(index, tuple(part[row] for part in batch), output.d[row]))
                    write_image(monitor_path(draft.path / "result", index), panel, metadata)
            bar.update(num_used)
    print(f"{count} images through the {module}; panels in {draft.final_path / 'result'}")
