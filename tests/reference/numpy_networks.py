"""The networks of SPEC.md section 3 once more, in plain numpy and evaluation mode, to check the real ones against."""

from __future__ import annotations

import numpy as np

Parameters = dict[str, np.ndarray]


def conv(x, p: Parameters, name: str, stride: int = 1, pad: int = 0):
    w = p[f"{name}/conv/W"]
    out_channels, _, k, _ = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]
    y = np.einsum("bchwij,ocij->bohw", windows, w)
    return y + p.get(f"{name}/conv/b", np.zeros(out_channels))[None, :, None, None]


def deconv(x, p: Parameters, name: str, stride: int, pad: int, out_pad: int = 0):
    w = p[f"{name}/deconv/W"]  # (in, out, k, k)
    batch, _, height, width = x.shape
    k = w.shape[2]
    full = np.zeros((batch, w.shape[1], (height - 1) * stride + k + out_pad, (width - 1) * stride + k + out_pad))
    for i in range(height):
        for j in range(width):
            patch = np.einsum("bc,cokl->bokl", x[:, :, i, j], w)
            full[:, :, i * stride : i * stride + k, j * stride : j * stride + k] += patch
    y = full[:, :, pad : full.shape[2] - pad, pad : full.shape[3] - pad]
    return y + p.get(f"{name}/deconv/b", np.zeros(w.shape[1]))[None, :, None, None]


def bn(x, p: Parameters, name: str):
    mean, var, gamma, beta = (p[f"{name}/bn/{key}"] for key in ("mean", "var", "gamma", "beta"))
    return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta


def instance(x, p: Parameters, name: str):
    normed = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    return normed * p[f"{name}/instance_normalization/gamma"] + p[f"{name}/instance_normalization/beta"]


def relu(x):
    return np.maximum(x, 0)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pool2(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).max((3, 5))


def twice(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def reflect(x, n: int):
    return np.pad(x, ((0, 0), (0, 0), (n, n), (n, n)), "reflect")


def residual(x, p: Parameters, name: str):
    h = conv(relu(bn(x, p, f"{name}/bn1")), p, f"{name}/conv1")
    h = conv(relu(bn(h, p, f"{name}/bn2")), p, f"{name}/conv2", pad=1)
    h = conv(relu(bn(h, p, f"{name}/bn3")), p, f"{name}/conv3")
    return h + (conv(x, p, f"{name}/downsample") if f"{name}/downsample/conv/W" in p else x)


def hourglass(x, p: Parameters, scope: str, level: int):
    low = residual(pool2(x), p, f"{scope}/{level}.1.0")
    low = residual(low, p, f"{scope}/0.3.0") if level == 0 else hourglass(low, p, scope, level - 1)
    return residual(x, p, f"{scope}/{level}.0.0") + twice(residual(low, p, f"{scope}/{level}.2.0"))


def encoder(x, p: Parameters, num_stacks: int):
    h = relu(bn(conv(x, p, "conv1", stride=2, pad=3), p, "bn1"))
    h = pool2(residual(h, p, "layer1"))
    h = residual(residual(h, p, "layer2"), p, "layer3")
    scores = []
    for stack in range(num_stacks):
        y = residual(hourglass(h, p, f"hourglass{stack}", 3), p, f"res{stack}")
        y = relu(bn(conv(y, p, f"fc{stack}"), p, f"fc{stack}"))
        scores.append(conv(y, p, f"score{stack}"))
        if stack < num_stacks - 1:
            number = "" if stack == 0 else stack
            h = h + conv(y, p, f"fc_{number}") + conv(scores[-1], p, f"score_{number}")
    return scores


def transformer(x, p: Parameters, norm):
    h = relu(norm(conv(reflect(x, 3), p, "conv1"), p, "conv1"))
    for name in ("conv2", "conv3"):
        h = relu(norm(conv(h, p, name, stride=2, pad=1), p, name))
    for k in range(1, 10):
        y = relu(norm(conv(reflect(h, 1), p, f"res{k}/block1"), p, f"res{k}/block1"))
        h = h + norm(conv(reflect(y, 1), p, f"res{k}/block2"), p, f"res{k}/block2")
    for name in ("deconv1", "deconv2"):
        h = relu(norm(deconv(h, p, name, 2, 1, out_pad=1), p, name))
    return sigmoid(conv(reflect(h, 3), p, "deconv3"))


def decoder(x, p: Parameters):
    h = bn(deconv(relu(x), p, "ReluDeconvBN1", 2, 1), p, "ReluDeconvBN1")
    h = np.tanh(deconv(relu(h), p, "ReluDeconvBN2", 2, 1))
    d = [conv(h, p, "down0", 2, 1)]
    for k in range(1, 7):
        d.append(bn(conv(leaky(d[-1]), p, f"down{k}", 2, 1), p, f"down{k}"))
    h = conv(leaky(d[-1]), p, "down7", 2, 1)
    for k in range(7):
        h = bn(deconv(relu(h), p, f"up{k}", 2, 1), p, f"up{k}")
        h = np.concatenate([d[6 - k], h], axis=1)
    return np.tanh(deconv(relu(h), p, "up7", 2, 1))


def align(x, p: Parameters):
    h = relu(bn(conv(conv(x, p, "layer0", pad=1), p, "layer1", 2, 3), p, "layer2"))
    padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    h = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((4, 5))
    for group in range(5, 9):
        for block in range(2):
            name, stride = f"layer{group}_{block}", 2 if group > 5 and block == 0 else 1
            y = relu(bn(conv(h, p, f"{name}/conv1", stride, 1), p, f"{name}/bn1"))
            y = bn(conv(y, p, f"{name}/conv2", 1, 1), p, f"{name}/bn2")
            if f"{name}/downsample/conv/W" in p:
                h = bn(conv(h, p, f"{name}/downsample", stride), p, f"{name}/downsample")
            h = relu(y + h)
    h = h.reshape(len(h), -1)
    for name in ("mlp1", "mlp3"):
        h = relu(h @ p[f"{name}/affine/W"] + p[f"{name}/affine/b"])
    return h @ p["mlp5/affine/W"] + p["mlp5/affine/b"]
