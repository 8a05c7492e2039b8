"""Time of one training iteration, against the straightforward graph with all gradients on; and of two processes.

    python benchmarks/training.py                     # full width, batch 1
    python benchmarks/training.py --planes 16 --ranks # also two processes of batch 2 against one of batch 4

The straightforward graph has its losses on the generator's output, as one writes them down: the discriminator sees a
detached fake, the generator's loss runs the generator again, and every gradient is on: those of the discriminator's
weights in the generator's pass, those of the fake in the discriminator's, those of the shape prior. Both run in turn in
one process; `tests/test_training.py` shows that they update alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnabla as nn
import nnabla.solvers as S
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import train_decoder  # noqa: E402
import train_encoder  # noqa: E402
import train_transformer  # noqa: E402
from config import load_config  # noqa: E402
from models import losses as L  # noqa: E402
from models.align import align, shape_code  # noqa: E402
from models.decoder import decoder, decoder_discriminator  # noqa: E402
from models.encoder import encoder  # noqa: E402
from models.transformer import transformer, transformer_discriminator  # noqa: E402
from utils.checkpoints import parameters_of  # noqa: E402
from utils.communicator import connect  # noqa: E402
from utils.training import Updater  # noqa: E402

NUM_ALIGN_OUTPUTS = 212
DROPOUT_SEED = 3
Step = Callable[[], dict[str, float]]


def in_scope(scope: str, function: Callable, *args: Any, **more: Any) -> Any:
    with nn.parameter_scope(scope):
        return function(*args, **more)


def solver_of(scopes: tuple[str, ...], rate: float, **more: float) -> S.Solver:
    solver = S.Adam(rate, **more)
    for scope in scopes:
        trained = {f"{scope}/{name}": v for name, v in parameters_of(scope).items() if v.need_grad}
        solver.set_parameters(trained, reset=False)
    return solver


def update(solver: S.Solver, loss: nn.Variable, weight_decay: float = 0.0) -> None:
    """The plain step: forward, backward, update."""
    loss.forward()
    solver.zero_grad()
    loss.backward()
    if weight_decay:
        solver.weight_decay(weight_decay)
    solver.update()


def plain_encoder(config: dict[str, Any], batch: tuple[np.ndarray, ...]) -> Step:
    image, heatmap = (nn.Variable.from_numpy_array(array) for array in batch)
    scores = in_scope("encoder", encoder, image, batch_stat=True, **config["model"])
    loss = L.encoder_loss(scores, heatmap, "mse")
    solver = solver_of(("encoder",), config["train"]["lr"])

    def step() -> dict[str, float]:
        update(solver, loss, config["train"]["weight_decay"])
        return {"loss": float(loss.d)}

    return step


def plain_decoder(config: dict[str, Any], batch: tuple[np.ndarray, ...]) -> Step:
    """Without the feature loss."""
    train, planes = config["train"], config["model"]["planes"]
    real, heatmap, large = (nn.Variable.from_numpy_array(array) for array in batch)
    generator, discriminator = train_decoder.GENERATOR, train_decoder.DISCRIMINATOR
    fake = in_scope(generator, decoder, heatmap, planes, training=True)
    fake.persistent = True
    judge = lambda image: in_scope(discriminator, decoder_discriminator, large, image, planes)  # noqa: E731
    detached = fake.get_unlinked_variable(need_grad=True)
    loss_d = 0.5 * (L.gan_bce(judge(real), True) + L.gan_bce(judge(detached), False))
    loss_gan, loss_l1 = L.gan_bce(judge(fake), True), L.mean_absolute_error(fake, real)
    loss_g = loss_gan + train["weight_L1"] * loss_l1
    for loss in (loss_d, loss_gan, loss_l1):
        loss.persistent = True
    solver_g, solver_d = (solver_of((s,), train["lr"], beta1=train["beta1"]) for s in (generator, discriminator))

    def step() -> dict[str, float]:
        nn.random.set_function_seed(DROPOUT_SEED)
        fake.forward()
        update(solver_d, loss_d)
        nn.random.set_function_seed(DROPOUT_SEED)  # the generator runs again, with the same dropout
        update(solver_g, loss_g)
        return {"loss_discriminator": float(loss_d.d), "loss_gan": float(loss_gan.d), "loss_l1": float(loss_l1.d)}

    return step


def plain_transformer(config: dict[str, Any], batch: tuple[np.ndarray, ...]) -> Step:
    train, planes = config["train"], config["model"]["planes"]
    real = dict(zip("AB", (nn.Variable.from_numpy_array(array) for array in batch)))
    generators, discriminators = train_transformer.GENERATORS, train_transformer.DISCRIMINATORS
    generate = lambda way, x: in_scope(generators[way], transformer, x, config["norm_type"], planes)  # noqa: E731
    judge = lambda who, x: in_scope(discriminators[who], transformer_discriminator, x, planes)  # noqa: E731
    fake = {"A": generate("B2A", real["B"]), "B": generate("A2B", real["A"])}
    for variable in fake.values():
        variable.persistent = True
    detached = {who: x.get_unlinked_variable(need_grad=True) for who, x in fake.items()}
    recon = {"A": generate("B2A", fake["B"]), "B": generate("A2B", fake["A"])}

    def code(x: nn.Variable) -> nn.Variable:
        return in_scope("pca", shape_code, in_scope("align", align, x, NUM_ALIGN_OUTPUTS, batch_stat=True))

    losses = {}
    for who, other in (("A", "B"), ("B", "A")):
        loss_real, loss_fake = L.lsgan(judge(who, real[who]), True), L.lsgan(judge(who, detached[who]), False)
        losses[f"loss_discriminator_{who}"] = loss_real + loss_fake
        losses[f"loss_gan_{who}"] = L.lsgan(judge(who, fake[who]), True)
        losses[f"loss_cycle_{who}"] = L.mean_absolute_error(recon[who], real[who])
        losses[f"loss_shape_{who}"] = L.mean_absolute_error(code(fake[other]), code(real[who]))
    for loss in losses.values():
        loss.persistent = True
    loss_d = losses["loss_discriminator_A"] + losses["loss_discriminator_B"]
    weights = {"gan": 1.0, "cycle": train["cycle_loss"]["lambda"], "shape": train["shape_loss"]["lambda"]}
    loss_g = sum(weight * losses[f"loss_{kind}_{who}"] for who in "AB" for kind, weight in weights.items())
    betas = {"beta1": train["beta1"], "beta2": train["beta2"]}
    solver_g = solver_of(tuple(generators.values()), train["lr"], **betas)
    solver_d = solver_of(tuple(discriminators.values()), train["lr"] / 2, **betas)

    def step() -> dict[str, float]:
        nn.forward_all(list(fake.values()))
        update(solver_d, loss_d, train["weight_decay"])
        update(solver_g, loss_g)
        return {name: float(loss.d) for name, loss in losses.items()}

    return step


def our_step(module: str, config: dict[str, Any], batch: tuple[np.ndarray, ...], updater: Updater) -> Step:
    train = config["train"]
    if module == "encoder":
        graph = train_encoder.build_graph(config, train["batch_size"], training=True)
        solver = solver_of(("encoder",), train["lr"])
        take = lambda: train_encoder.train_step(graph, solver, updater, batch, train["weight_decay"])  # noqa: E731
    elif module == "decoder":
        graph = train_decoder.build_graph(config, None)
        solvers = train_decoder.make_solvers(config)
        take = lambda: train_decoder.train_step(graph, solvers, updater, batch, True)  # noqa: E731
    else:
        graph = train_transformer.build_graph(config, NUM_ALIGN_OUTPUTS)
        solvers = train_transformer.make_solvers(config)
        train_transformer.set_batch(graph, batch[:1], batch[1:])
        take = lambda: train_transformer.train_step(graph, solvers, updater, train["weight_decay"])  # noqa: E731
    return lambda: {name: float(loss.d) for name, loss in take().items()}


PLAIN = {"encoder": plain_encoder, "transformer": plain_transformer, "decoder": plain_decoder}
SHAPES = {
    "encoder": ((3, 256), (15, 64)),
    "transformer": ((15, 64), (15, 64)),
    "decoder": ((3, 256), (15, 64), (15, 256)),
}


def random_batch(module: str, batch_size: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        rng.uniform(-1 if channels == 3 else 0, 1, (batch_size, channels, size, size)).astype(np.float32)
        for channels, size in SHAPES[module]
    )


def small_config(module: str, planes: int, batch_size: int) -> dict[str, Any]:
    config = load_config(module)
    config["model"]["planes"], config["train"]["batch_size"] = planes, batch_size
    return config


def compare(module: str, planes: int, rounds: int) -> dict[str, float]:
    """Median seconds of each step, taken in turn."""
    nn.clear_parameters()
    config, batch = small_config(module, planes, 1), random_batch(module, 1)
    steps = {"plain": PLAIN[module](config, batch), "ours": our_step(module, config, batch, Updater())}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number > 0:  # the first step allocates
                seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {**medians, "ratio": medians["ours"] / medians["plain"]}


def work_as_rank(planes: int, batch_size: int, rounds: int) -> None:
    """Samples a second of all processes together, of the decoder; rank 0 prints them."""
    communicator = connect("cpu")
    config = small_config("decoder", planes, batch_size)
    step = our_step("decoder", config, random_batch("decoder", batch_size, communicator.rank), Updater(communicator))
    step()
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    speed = rounds * batch_size * communicator.size / (time.perf_counter() - start)
    if communicator.rank == 0:
        print(json.dumps({"speed": speed}))


def speed_of_ranks(num_ranks: int, batch_size: int, planes: int, rounds: int) -> float:
    mpirun = Path(sys.executable).parent / "mpirun"
    launch = [str(mpirun) if mpirun.exists() else "mpirun", "-n", str(num_ranks)] if num_ranks > 1 else []
    numbers = [str(number) for number in (planes, batch_size, rounds)]
    command = [*launch, sys.executable, __file__, "--as-rank", *numbers]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    return next(json.loads(line)["speed"] for line in output.splitlines() if line.startswith("{"))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=64, help="base channels of the networks (default 64, full width)")
    parser.add_argument("--rounds", type=int, default=3, help="timed iterations of each (default 3)")
    parser.add_argument("--modules", nargs="+", choices=PLAIN, default=list(PLAIN))
    parser.add_argument("--ranks", action="store_true", help="two processes of batch 2 against one of batch 4")
    parser.add_argument("--as-rank", nargs=3, type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.as_rank:
        work_as_rank(*args.as_rank)
        return
    for module in args.modules:
        row = compare(module, args.planes, args.rounds)
        times = f"plain {row['plain']:.3f} s, ours {row['ours']:.3f} s, ratio {row['ratio']:.2f}"
        print(f"{module:12} one iteration: {times}", flush=True)
    if args.ranks:
        # in turn, twice each; the faster counts, since other work on the machine only slows
        speeds = {ranks: max(speed_of_ranks(ranks, 4 // ranks, args.planes, 6) for _ in range(2)) for ranks in (1, 2)}
        print(
            f"decoder, {args.planes} base channels: 1 process of batch 4: {speeds[1]:.2f} samples/s, "
            f"2 of batch 2: {speeds[2]:.2f}, ratio {speeds[2] / speeds[1]:.2f}"
        )


if __name__ == "__main__":
    main()
