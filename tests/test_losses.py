import nnabla as nn
import numpy as np
import pytest
from scipy import ndimage

from models import losses
from models.layers import blur
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
        (
            lambda: losses.encoder_loss([var(X), var(P)], var(Y), "bce"),
            bce(sigmoid(X), Y) + bce(sigmoid(P), Y),
        ),
        (lambda: losses.encoder_loss([var(X)], var(Y), "mse"), ((X - Y) ** 2).mean()),
        (
            lambda: losses.feature_mse([var(X), var(P)], [var(Y), var(Y)]),
            ((X - Y) ** 2).mean() + ((P - Y) ** 2).mean(),
        ),
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


def test_detail_is_the_local_mean_of_second_differences():
    image = rng.uniform(-1, 1, (2, 3, 32, 40)).astype(np.float32)
    found = losses.detail(var(image))
    found.forward()
    across = np.abs(np.diff(image, 2, axis=3))[:, :, 1:-1]
    down = np.abs(np.diff(image, 2, axis=2))[..., 1:-1]
    sizes = np.stack([across, down], axis=2).reshape(2, 6, 30, 38)
    windows = np.lib.stride_tricks.sliding_window_view(sizes, (8, 8), axis=(2, 3))[:, :, ::4, ::4]
    np.testing.assert_allclose(found.d, windows.mean(axis=(4, 5)), rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
def test_blur_is_a_gaussian(sigma):
    image = rng.uniform(-1, 1, (2, 3, 32, 40)).astype(np.float32)
    found = blur(var(image), sigma)
    found.forward()
    expected = [
        [ndimage.gaussian_filter(plane, sigma, mode="mirror", radius=max(round(3 * sigma), 1)) for plane in planes]
        for planes in image
    ]
    np.testing.assert_allclose(found.d, expected, atol=1e-5)
    assert blur(var(image), 0).shape == image.shape


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (2, 1, 30, 30), (7,), (1, 3), (3, 98), (1,)])
def test_a_mean_for_gpus_is_the_mean(shape):
    array = rng.normal(3, 1, shape).astype(np.float32)
    x = nn.Variable.from_numpy_array(array, need_grad=True)
    loss = losses.mean_by_product(x)
    assert value(loss) == pytest.approx(array.mean(dtype=np.float64), rel=1e-6)
    x.grad.zero()
    loss.backward()
    np.testing.assert_allclose(x.g, np.full(shape, 1 / array.size), rtol=1e-6)
