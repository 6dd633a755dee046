"""Networks of network_gradients.py that are nobody's own: small ones of the kinds that image and sound models are made of."""

import torch
import torchvision
from torch import nn


def vgg(classes):
    """VGG-11's convolutions under narrow layers, for images of 64 × 64."""
    features = torchvision.models.vgg11().features
    head = [nn.Linear(512 * 4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes)]
    return nn.Sequential(features, nn.Flatten(), *head)


class Preactivation(nn.Module):
    """As DenseNet: batch normalisation and ReLU before each convolution, and everything before beside what is new."""

    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 5, stride=2, padding=2, bias=False)
        self.first, self.second = self.block(12, 8), self.block(20, 8)
        self.narrow = self.block(28, 14, kernel=1)
        self.third = self.block(14, 8)
        self.norm = nn.BatchNorm2d(22)
        self.last = nn.Linear(22, classes)

    @staticmethod
    def block(channels, more, kernel=3):
        norm, convolution = nn.BatchNorm2d(channels), nn.Conv2d(channels, more, kernel, padding=kernel // 2)
        return nn.ModuleDict({"norm": norm, "convolution": convolution})

    @staticmethod
    def through(block, x):
        return block["convolution"](torch.relu(block["norm"](x)))

    def forward(self, x):
        x = nn.functional.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        x = torch.cat([x, self.through(self.first, x)], dim=1)
        x = torch.cat([x, self.through(self.second, x)], dim=1)
        x = nn.functional.avg_pool2d(self.through(self.narrow, x), 2, ceil_mode=True, count_include_pad=False)
        x = torch.cat([x, self.through(self.third, x)], dim=1)
        return self.last(torch.relu(self.norm(x)).mean(dim=(2, 3)))


class Unet(nn.Module):
    """Down and up again, with normalisations by image, dilated and grouped convolutions, and transposed ones; smooth."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.InstanceNorm2d(16, affine=True)
        self.wide = nn.Conv2d(16, 24, 3, padding=2, dilation=2, groups=4)
        self.wide_norm = nn.GroupNorm(4, 24)
        self.up = nn.ConvTranspose2d(24, 16, 3, stride=2, padding=1, output_padding=1)
        self.apart = nn.ConvTranspose2d(16, 16, 2, groups=16)
        self.out = nn.Conv2d(19, 2, 3)

    def forward(self, x):
        down = nn.functional.silu(self.down_norm(self.down(x)))
        wide = nn.functional.gelu(self.wide_norm(self.wide(down)))
        wide = nn.functional.avg_pool2d(wide, 3, stride=1, padding=1)
        up = torch.tanh(self.apart(self.up(wide)))[:, :, :-1, :-1]
        return self.out(torch.cat([up, x], dim=1))


class Waves(nn.Module):
    """As wav2vec 2.0: convolutions over a waveform, the first normalised by channel, and places told by a grouped one."""

    def __init__(self, classes):
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, 16, 10, stride=5, bias=False), nn.GroupNorm(16, 16)
        self.second, self.third = nn.Conv1d(16, 16, 3, stride=2), nn.Conv1d(16, 24, 2, stride=2)
        self.places = nn.Conv1d(24, 24, 9, padding=4, groups=4)
        self.last = nn.Linear(24, classes)

    def forward(self, x):
        x = nn.functional.gelu(self.norm(self.first(x)))
        x = nn.functional.gelu(self.third(nn.functional.gelu(self.second(x))))
        x = x + nn.functional.gelu(self.places(x))
        return self.last(x.mean(dim=2))
