"""Run a trained decoder on the test split: panels of boundary, generated face and ground truth.

python test_decoder.py tmp.monitor/decoder/<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

from pathlib import Path

import nnabla as nn
from tqdm import tqdm

from datasets.batches import collate
from datasets.celebv import HEATMAP, IMAGE
from datasets.images import write_image
from datasets.panels import face_picture, generated_mark, heatmap_picture, monitor_path, side_by_side
from datasets.samples import open_dataset
from inference.trained import Trained, find_weights, index_batches, load_network, parse_test_args, read_test_config
from models.networks import HEATMAP_SHAPE
from utils.cli import limit_count
from utils.ending import call_main
from utils.files import new_result, timestamp


def main() -> None:
    args = parse_test_args(__doc__)
    config = read_test_config("decoder", args)
    test, person = config.test, config.trg_celeb_name
    dataset = open_dataset(config, person, "test", (IMAGE, HEATMAP), draw_anew=True)
    count = limit_count(args.num, len(dataset), f"the test split of {person}")

    heatmap = nn.Variable((min(test.batch_size, count), *HEATMAP_SHAPE))
    weights = find_weights("decoder", config, args.training_info, args.param_file)
    fake = load_network("decoder", Trained(config, weights), heatmap)

    result_parent, name = Path(test.logdir) / "decoder" / person, config.experiment_name or timestamp()
    mark = generated_mark(f"face of {person} in the middle, painted from the boundary")
    with new_result(result_parent, name, args.info) as folder, tqdm(total=count, unit="frame", disable=None) as bar:
        for indices, num_used in index_batches(count, heatmap.shape[0]):
            image, heatmap.d = collate(dataset[index] for index in indices)
            fake.forward(clear_buffer=True)
            for row, index in enumerate(indices[:num_used]):
                if index % test.vis_interval == 0:
                    tiles = [heatmap_picture(heatmap.d[row]), face_picture(fake.d[row]), face_picture(image[row])]
                    write_image(monitor_path(folder.path / "result", index), side_by_side(tiles), mark)
            bar.update(num_used)
    print(f"{count} images through the decoder; panels in {folder.final_path / 'result'}")


if __name__ == "__main__":
    call_main(main)
