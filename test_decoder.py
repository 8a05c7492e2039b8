"""Run a trained decoder on the test split: panels of boundary, generated face and ground truth.

python test_decoder.py tmp.monitor/decoder/<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations

from pathlib import Path

import nnabla as nn
from tqdm import tqdm

from datasets.batches import collate
from datasets.celebv import HEATMAP, IMAGE, CelebVSource
from datasets.images import write_image
from models.decoder import decoder
from utils.checkpoints import load_parameters
from utils.errors import run
from utils.files import new_folder
from utils.panels import face_picture, generated_mark, heatmap_picture, side_by_side
from utils.testing import count_of, find_weights, index_batches, parse_test_args, start_test

SCOPE = "netG_decoder"


def main() -> None:
    args = parse_test_args(__doc__)
    config = start_test("decoder", args)
    test, person = config["test"], config["trg_celeb_name"]
    source = CelebVSource(
        config["train_dir"], person, "test", (IMAGE, HEATMAP), config["ref_dir"], boundary=config["boundary"]
    )
    count = count_of(args.num, len(source), f"the test split of {person}")

    heatmap = nn.Variable((min(test["batch_size"], count), 15, 64, 64))
    with nn.parameter_scope(SCOPE):
        fake = decoder(heatmap, config["model"]["planes"], training=False, batch_stat=test["batch_stat"])
    run_dir = Path(config["logdir"]) / "decoder" / person / config["experiment_name"]
    load_parameters(find_weights(args.param_file, args.training_info, run_dir, f"{SCOPE}_"), SCOPE)

    result_dir = new_folder(Path(test["logdir"]) / "decoder" / person, config["experiment_name"], args.info)
    mark = generated_mark(f"face of {person} in the middle, painted from the boundary")
    with tqdm(total=count, unit="frame", disable=None) as bar:
        for indices, used in index_batches(count, heatmap.shape[0]):
            image, heatmap.d = collate(source[index] for index in indices)
            fake.forward(clear_buffer=True)
            for row, index in enumerate(indices[:used]):
                if index % test["vis_interval"] == 0:
                    tiles = [heatmap_picture(heatmap.d[row]), face_picture(fake.d[row]), face_picture(image[row])]
                    write_image(result_dir / f"{index:06d}.png", side_by_side(tiles), mark)
            bar.update(used)
    print(f"{count} images through the decoder; panels in {result_dir}")


if __name__ == "__main__":
    run(main)
