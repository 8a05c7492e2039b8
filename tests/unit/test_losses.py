import nnabla as nn
import numpy as np
import pytest

from models import losses
from training.schedule import linear_decay

rng = np.random.default_rng(1)
X = rng.normal(size=(2, 3, 4, 4))
Y = rng.uniform(0, 1, size=(2, 3, 4, 4))
P = rng.uniform(0.05, 0.95, size=(2, 3, 4, 4))


def value(loss: nn.Variable) -> float:
    loss.forward()
    assert loss.shape == ()
    return float(loss.d)


def var(array) -> nn.Variable:
    return nn.Variable.from_numpy_array(array)


def bce(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    "loss, expected",
    [
        (lambda: losses.mean_squared_error(var(X), var(Y)), ((X - Y) ** 2).mean()),
        (lambda: losses.mean_absolute_error(var(X), var(Y)), np.abs(X - Y).mean()),
        (lambda: losses.heatmap_bce(var(X), var(Y)), bce(sigmoid(X), Y)),
        (lambda: losses.probability_bce(var(P), var(Y)), bce(P, Y)),
        (lambda: losses.lsgan(var(X), True), ((X - 1) ** 2).mean()),
        (lambda: losses.lsgan(var(X), False), (X**2).mean()),
        (lambda: losses.gan_bce(var(X), True), -np.log(sigmoid(X)).mean()),
        (lambda: losses.gan_bce(var(X), False), -np.log(1 - sigmoid(X)).mean()),
        (lambda: losses.encoder_loss([var(X), var(P)], var(Y), "mse"), ((X - Y) ** 2).mean() + ((P - Y) ** 2).mean()),
        (lambda: losses.encoder_loss([var(X), var(P)], var(Y), "bce"), bce(sigmoid(X), Y) + bce(sigmoid(P), Y)),
        (lambda: losses.encoder_loss([var(X)], var(Y), "mse"), ((X - Y) ** 2).mean()),
        (lambda: losses.feature_mse([var(X), var(P)], [var(Y), var(Y)]), ((X - Y) ** 2).mean() + ((P - Y) ** 2).mean()),
    ],
)
def test_loss_equals_numpy(loss, expected):
    assert value(loss()) == pytest.approx(expected, rel=1e-5)


def test_gan_bce_stays_finite_where_a_sigmoid_saturates():
    assert value(losses.gan_bce(var(np.full((1, 1, 2, 2), -200.0)), True)) == pytest.approx(200)


def test_rate_is_constant_then_falls_linearly_to_zero():
    rates = [linear_decay(2e-4, epoch, 100, 150) for epoch in range(151)]
    assert rates[:101] == [2e-4] * 101
    assert rates[125] == pytest.approx(1e-4)
    assert rates[149] == pytest.approx(2e-4 / 50)
    assert rates[150] == 0
    assert [linear_decay(1.0, epoch, 10, 4) for epoch in range(4)] == [1.0] * 4


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (2, 1, 30, 30), (7,), (1, 3), (3, 98), (1,)])
def test_a_mean_for_gpus_is_the_mean(shape):
    array = rng.normal(3, 1, shape).astype(np.float32)
    x = nn.Variable.from_numpy_array(array, need_grad=True)
    loss = losses.mean_by_product(x)
    assert value(loss) == pytest.approx(array.mean(dtype=np.float64), rel=1e-6)
    x.grad.zero()
    loss.backward()
    np.testing.assert_allclose(x.g, np.full(shape, 1 / array.size), rtol=1e-6)
