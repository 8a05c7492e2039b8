"""Training steps written the straightforward way, with all gradients on, and the real ones in the same form.

The straightforward graph has its losses on the generator's output, as one writes them down: the discriminator sees a
detached fake, the generator's loss runs the generator again, and every gradient is on: of the discriminator's
weights in the generator's pass, of the fake in the discriminator's, of the shape prior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nnabla as nn
import nnabla.solvers as S
import numpy as np

import train_decoder
import train_encoder
import train_transformer
from config import Config, complete_config
from models import losses as L
from models.align import align, shape_code
from models.decoder import decoder, decoder_discriminator
from models.encoder import encoder
from models.network import Network
from models.networks import DECODER, DECODER_DISCRIMINATOR, ENCODER, TRANSFORMER_DISCRIMINATORS, TRANSFORMERS
from models.transformer import transformer, transformer_discriminator
from training.communicator import Communicator
from training.solver import LossScale, Solver

NUM_ALIGN_OUTPUTS = 212
DROPOUT_SEED = 3
Step = Callable[[], dict[str, float]]


def in_scope(scope: str, function: Callable, *args: Any, **more: Any) -> Any:
    """Call a network's function under a scope."""
    with nn.parameter_scope(scope):
        return function(*args, **more)


def solver_of(scopes: tuple[str, ...], rate: float, **more: float) -> S.Solver:
    """Make one Adam for the networks of some scopes."""
    solver = S.Adam(rate, **more)
    for scope in scopes:
        trained = {f"{scope}/{name}": v for name, v in Network(scope).trained().items()}
        solver.set_parameters(trained, reset=False)
    return solver


def update(solver: S.Solver, loss: nn.Variable, weight_decay: float = 0.0) -> None:
    """Run a plain step: forward, backward, update."""
    loss.forward()
    solver.zero_grad()
    loss.backward()
    if weight_decay:
        solver.weight_decay(weight_decay)
    solver.update()


def plain_encoder(config: Config, batch: tuple[np.ndarray, ...]) -> Step:
    """Build the encoder's step."""
    image, heatmap = (nn.Variable.from_numpy_array(array) for array in batch)
    scores = in_scope("encoder", encoder, image, config.model.num_stacks, config.model.planes, batch_stat=True)
    loss = L.encoder_loss(scores, heatmap, "mse")
    solver = solver_of(("encoder",), config.train.lr)

    def step() -> dict[str, float]:
        update(solver, loss, config.train.weight_decay)
        return {"loss": float(loss.d)}

    return step


def plain_decoder(config: Config, batch: tuple[np.ndarray, ...]) -> Step:
    """Build the decoder's step without the feature loss."""
    train, planes = config.train, config.model.planes
    real, heatmap, large = (nn.Variable.from_numpy_array(array) for array in batch)
    generator, discriminator = DECODER.name, DECODER_DISCRIMINATOR.name
    fake = in_scope(generator, decoder, heatmap, planes, training=True)
    fake.persistent = True
    score = lambda image: in_scope(discriminator, decoder_discriminator, large, image, planes)  # noqa: E731
    detached = fake.get_unlinked_variable(need_grad=True)
    loss_d = 0.5 * (L.gan_bce(score(real), True) + L.gan_bce(score(detached), False))
    loss_gan, loss_l1 = L.gan_bce(score(fake), True), L.mean_absolute_error(fake, real)
    loss_g = loss_gan + train.weight_L1 * loss_l1
    losses = {"loss_netG": loss_g, "loss_netD": loss_d, "loss_gan": loss_gan, "L1_loss": loss_l1}
    for loss in losses.values():
        loss.persistent = True
    solver_g, solver_d = (solver_of((s,), train.lr, beta1=train.beta1) for s in (generator, discriminator))

    def step() -> dict[str, float]:
        nn.random.set_function_seed(DROPOUT_SEED)
        fake.forward()
        update(solver_d, loss_d)
        nn.random.set_function_seed(DROPOUT_SEED)  # the generator runs again, with the same dropout
        update(solver_g, loss_g)
        return {name: float(loss.d) for name, loss in losses.items()}

    return step


def plain_transformer(config: Config, batch: tuple[np.ndarray, ...]) -> Step:
    """Build the transformer's step with the shape loss."""
    train, planes = config.train, config.model.planes
    real = dict(zip("AB", (nn.Variable.from_numpy_array(array) for array in batch)))
    generators = {way: network.name for way, network in TRANSFORMERS.items()}
    discriminators = {who: network.name for who, network in TRANSFORMER_DISCRIMINATORS.items()}
    generate = lambda way, x: in_scope(generators[way], transformer, x, config.norm_type, planes)  # noqa: E731
    score = lambda who, x: in_scope(discriminators[who], transformer_discriminator, x, planes)  # noqa: E731
    fake = {"A": generate("B2A", real["B"]), "B": generate("A2B", real["A"])}
    for variable in fake.values():
        variable.persistent = True
    detached = {who: x.get_unlinked_variable(need_grad=True) for who, x in fake.items()}
    recon = {"A": generate("B2A", fake["B"]), "B": generate("A2B", fake["A"])}

    def code(x: nn.Variable) -> nn.Variable:
        return in_scope("pca", shape_code, in_scope("align", align, x, NUM_ALIGN_OUTPUTS, batch_stat=True))

    losses = {}
    for who, other in (("A", "B"), ("B", "A")):
        loss_real, loss_fake = L.lsgan(score(who, real[who]), True), L.lsgan(score(who, detached[who]), False)
        losses[f"loss_netD_{who}"] = loss_real + loss_fake
        losses[f"loss_gan_{who}"] = L.lsgan(score(who, fake[who]), True)
        losses[f"loss_cycle_{who}"] = L.mean_absolute_error(recon[who], real[who])
        losses[f"loss_shape_{who}"] = L.mean_absolute_error(code(fake[other]), code(real[who]))
    loss_d = losses["loss_netD_A"] + losses["loss_netD_B"]
    weights = {"gan": 1.0, "cycle": train.cycle_loss.lambda_, "shape": train.shape_loss.lambda_}
    loss_g = sum(weight * losses[f"loss_{kind}_{who}"] for who in "AB" for kind, weight in weights.items())
    losses |= {"loss_netG": loss_g, "loss_netD": loss_d}
    for loss in losses.values():
        loss.persistent = True
    betas = {"beta1": train.beta1, "beta2": train.beta2}
    solver_g = solver_of(tuple(generators.values()), train.lr, **betas)
    solver_d = solver_of(tuple(discriminators.values()), train.lr / 2, **betas)

    def step() -> dict[str, float]:
        nn.forward_all(list(fake.values()))
        update(solver_d, loss_d, train.weight_decay)
        update(solver_g, loss_g)
        return {name: float(loss.d) for name, loss in losses.items()}

    return step


def our_step(
    module: str,
    config: Config,
    batch: tuple[np.ndarray, ...],
    communicator: Communicator | None = None,
    loss_scale: LossScale | None = None,
) -> Step:
    """Build the step of a training script."""
    train = config.train
    if module == "encoder":
        graph = train_encoder.build_graph(config, train.batch_size, training=True)
        solvers = (Solver([ENCODER], train.lr),)
        take = lambda: train_encoder.train_step(graph, solvers[0], batch, train.weight_decay)  # noqa: E731
    elif module == "decoder":
        graph = train_decoder.build_graph(config)
        solvers = train_decoder.make_solvers(config)
        take = lambda: train_decoder.train_step(graph, solvers, batch)  # noqa: E731
    else:
        graphs = [train_transformer.build_graph(config, NUM_ALIGN_OUTPUTS)]
        solvers = train_transformer.make_solvers(config)
        train_transformer.set_batch(graphs[0], batch[:1], batch[1:])
        take = lambda: train_transformer.train_step(graphs, solvers, train.weight_decay)  # noqa: E731
    for solver in solvers:
        solver.join(communicator or Communicator(), loss_scale or LossScale())
    return lambda: {name: float(loss.d) for name, loss in take().items()}


PLAIN = {"encoder": plain_encoder, "transformer": plain_transformer, "decoder": plain_decoder}
SHAPES = {
    "encoder": ((3, 256), (15, 64)),
    "transformer": ((15, 64), (15, 64)),
    "decoder": ((3, 256), (15, 64), (15, 256)),
}


def random_batch(module: str, batch_size: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw a batch of a module's shapes and ranges."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.uniform(-1 if channels == 3 else 0, 1, (batch_size, channels, size, size)).astype(np.float32)
        for channels, size in SHAPES[module]
    )


def small_config(module: str, planes: int, batch_size: int, **train: Any) -> Config:
    """Return the defaults with another width and batch size, and other keys of `train`; no feature loss."""
    given = {"model": {"planes": planes}, "train": {"batch_size": batch_size, **train}}
    if module == "decoder":
        given["train"]["feature_loss"] = {"lambda": 0}  # VGG-16 would have to be fetched
    return complete_config(module, given, None)
