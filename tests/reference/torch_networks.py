"""The networks of the paper in plain PyTorch: what the tests compare converted weights with, and benchmarks the speed.

Written from the description of the networks, with the names that the authors' state dicts have where those are known.
Each module takes and gives what its twin in `models/` does, at full width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Apply a pre-activation residual: (B, in, H, W) to (B, 2 * width, H, W)."""

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 2 * width, 1)
        if in_channels != 2 * width:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, 2 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.bn1(x)))
        h = self.conv2(F.relu(self.bn2(h)))
        h = self.conv3(F.relu(self.bn3(h)))
        return h + (self.downsample(x) if hasattr(self, "downsample") else x)


class Hourglass(nn.Module):
    def __init__(self, depth: int = 4):
        super().__init__()
        count = {0: 4}  # residuals of a level; the innermost has one more
        self.hg = nn.ModuleList(
            nn.ModuleList(nn.Sequential(Bottleneck(256, 128)) for _ in range(count.get(level, 3)))
            for level in range(depth)
        )

    def forward(self, x: Tensor, level: int = 3) -> Tensor:
        blocks = self.hg[level]
        low = blocks[1](F.max_pool2d(x, 2))
        low = self.forward(low, level - 1) if level > 0 else blocks[3](low)
        return blocks[0](x) + F.interpolate(blocks[2](low), scale_factor=2)


class StackedHourglass(nn.Module):
    def __init__(self, num_stacks: int = 2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64))
        self.layer2 = nn.Sequential(Bottleneck(128, 128))
        self.layer3 = nn.Sequential(Bottleneck(256, 128))
        stacks = range(num_stacks)
        self.hg = nn.ModuleList(Hourglass() for _ in stacks)
        self.res = nn.ModuleList(nn.Sequential(Bottleneck(256, 128)) for _ in stacks)
        self.fc = nn.ModuleList(nn.Sequential(nn.Conv2d(256, 256, 1), nn.BatchNorm2d(256), nn.ReLU()) for _ in stacks)
        self.score = nn.ModuleList(nn.Conv2d(256, 15, 1) for _ in stacks)
        self.fc_ = nn.ModuleList(nn.Conv2d(256, 256, 1) for _ in stacks[1:])
        self.score_ = nn.ModuleList(nn.Conv2d(15, 256, 1) for _ in stacks[1:])

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.layer3(self.layer2(F.max_pool2d(self.layer1(x), 2)))
        scores = []
        for index, hourglass in enumerate(self.hg):
            features = self.fc[index](self.res[index](hourglass(x)))
            scores.append(self.score[index](features))
            if index + 1 < len(self.hg):
                x = x + self.fc_[index](features) + self.score_[index](scores[-1])
        return scores


class Encoder(nn.Module):
    """Predict two scores (B, 15, 64, 64) from (B, 3, 256, 256)."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(StackedHourglass())

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.model(image)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: type[nn.Module]):
        super().__init__()

        def half() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False), norm(channels)]

        self.conv_block = nn.Sequential(*half(), nn.ReLU(), *half())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class InstanceNorm(nn.InstanceNorm2d):
    def __init__(self, channels: int):
        super().__init__(channels, affine=True)


class Transformer(nn.Module):
    """Transform (B, 15, 64, 64) to the same shape."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d):
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(15, 64, 7, bias=False), norm(64), nn.ReLU()]
        for width in (64, 128):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), norm(2 * width), nn.ReLU()]
        layers += [ResidualBlock(256, norm) for _ in range(9)]
        for width in (128, 64):
            layers += [nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1, bias=False), norm(width), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(64, 15, 7), nn.Sigmoid()]
        self.model = nn.Sequential(*layers)

    def forward(self, heatmap: Tensor) -> Tensor:
        return self.model(heatmap)


class UNetLevel(nn.Module):
    """Apply a level of the decoder's U-Net with all those inside it, as pix2pix nests them."""

    def __init__(self, widths: tuple[int, ...], level: int = 0):
        super().__init__()
        outer, width = widths[level], widths[level + 1]
        is_innermost, is_outermost = level + 2 == len(widths), level == 0
        down = [nn.Conv2d(outer, width, 4, 2, 1, bias=False)]
        if not is_outermost:
            down.insert(0, nn.LeakyReLU(0.2))
            if not is_innermost:
                down.append(nn.BatchNorm2d(width))
        inside = [] if is_innermost else [UNetLevel(widths, level + 1)]
        from_inside = width if is_innermost else 2 * width
        if is_outermost:
            up = [nn.ReLU(), nn.ConvTranspose2d(from_inside, 3, 4, 2, 1), nn.Tanh()]
        else:
            up = [nn.ReLU(), nn.ConvTranspose2d(from_inside, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer)]
            if outer == width == 512 and not is_innermost:
                up.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*down, *inside, *up)
        self.is_outermost = is_outermost

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.is_outermost else torch.cat([x, self.model(x)], 1)


class Decoder(nn.Module):
    """Paint (B, 3, 256, 256) from (B, 15, 64, 64)."""

    def __init__(self):
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(15, 15, 4, 2, 1, bias=False),
            nn.BatchNorm2d(15),
            nn.ReLU(),
            nn.ConvTranspose2d(15, 15, 4, 2, 1),
            nn.Tanh(),
        )
        self.unet = UNetLevel((15, 64, 128, 256, 512, 512, 512, 512, 512))

    def forward(self, heatmap: Tensor) -> Tensor:
        return self.unet(self.enlarge(heatmap))


class BasicBlock(nn.Module):
    """Apply ResNet-18's block."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + (self.downsample(x) if hasattr(self, "downsample") else x))


class Align(nn.Module):
    """Find (B, 212) in (B, 15, 64, 64)."""

    def __init__(self):
        super().__init__()
        first = [nn.Conv2d(15, 3, 3, 1, 1), nn.Conv2d(3, 16, 7, 2, 3, bias=False)]
        first += [nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        widths = (16, 16, 32, 64, 128)
        layers = [
            nn.Sequential(BasicBlock(before, width, 1 if before == width else 2), BasicBlock(width, width, 1))
            for before, width in zip(widths, widths[1:])
        ]
        self.model = nn.Sequential(*first, *layers)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 212)
        )

    def forward(self, heatmap: Tensor) -> Tensor:
        return self.mlp(self.model(heatmap))


def build(network: str) -> nn.Module:
    """Build the network that `tools/convert_authors_weights.py` knows under a name, in evaluation mode."""
    makers = {
        "encoder": Encoder,
        "transformer": Transformer,
        "transformer-instance-norm": lambda: Transformer(InstanceNorm),
        "decoder": Decoder,
        "align": Align,
    }
    return makers[network]().eval()


def randomize(module: nn.Module, seed: int) -> None:
    """Draw weights and statistics under which numbers stay about as large as they were."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            leaf = name.rpartition(".")[2]
            if tensor.dim() > 1:
                tensor.normal_(0, float(tensor[0].numel()) ** -0.5, generator=generator)
            elif leaf == "running_var" or (leaf == "weight" and tensor.dim() == 1):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif leaf != "num_batches_tracked":
                tensor.normal_(0, 0.3, generator=generator)
