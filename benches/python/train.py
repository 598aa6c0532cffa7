"""Training steps of known networks in PyTorch: images per second.

Usage: train.py NETWORK BATCH THREADS STEPS [bf16]
Batches of random images from memory (1 x 28 x 28, or 3 x 224 x 224 for the ImageNet networks),
cross-entropy, SGD with Nesterov momentum, in training mode. The first steps, in which memory is
taken, are not timed.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WARM_UP = 3


def conv(inputs, outputs, stride=1, kernel=3, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Vgg7(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 1
        for width in (32, 32, "pool", 64, 64, "pool", 128, 128, 128):
            if width == "pool":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [conv(inputs, width), nn.ReLU()]
                inputs = width
        self.features, self.head = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = conv(inputs, outputs, stride), conv(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else conv(inputs, outputs, stride, 1)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [conv(1, 16), nn.ReLU()], 16
        for width in (16, 32, 64):
            for i in range(3):
                layers.append(Block(inputs, width, 2 if i == 0 and width > 16 else 1))
                inputs = width
        self.features, self.head = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, width, 1, 1), nn.ReLU(), conv(width, width, stride), nn.ReLU(),
            conv(width, 4 * width, 1, 1),
        )
        same = stride == 1 and inputs == 4 * width
        self.short = nn.Identity() if same else conv(inputs, 4 * width, stride, 1)

    def forward(self, x):
        return F.relu(self.body(x) + self.short(x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [conv(3, 64, 2, 7), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
            for i in range(count):
                layers.append(Bottleneck(inputs, width, 2 if i == 0 and stage > 0 else 1))
                inputs = 4 * width
        self.features, self.head = nn.Sequential(*layers), nn.Linear(inputs, 1000)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, factor):
        super().__init__()
        width = inputs * factor
        layers = [conv(inputs, width, 1, 1), nn.ReLU6()] if factor > 1 else []
        layers += [conv(width, width, stride, 3, width), nn.ReLU6(), conv(width, outputs, 1, 1)]
        self.body, self.same = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.same else self.body(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [conv(3, 32, 2), nn.ReLU6()], 32
        stages = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)
        for factor, outputs, count, stride in (*stages, (6, 160, 3, 2), (6, 320, 1, 1)):
            for i in range(count):
                layers.append(Inverted(inputs, outputs, stride if i == 0 else 1, factor))
                inputs = outputs
        layers += [conv(inputs, 1280, 1, 1), nn.ReLU6()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(1280, 1000)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


NETWORKS = {
    "vgg7": (Vgg7, (1, 28, 28), 10),
    "resnet20": (ResNet20, (1, 28, 28), 10),
    "mobilenet-v2": (MobileNetV2, (3, 224, 224), 1000),
    "resnet50": (ResNet50, (3, 224, 224), 1000),
}


def main():
    network, (batch, threads, steps) = sys.argv[1], map(int, sys.argv[2:5])
    half = sys.argv[5:] == ["bf16"]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    build, shape, classes = NETWORKS[network]
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
    images = torch.randn(2 * batch, *shape)
    labels = torch.randint(0, classes, (2 * batch,))
    start = time.perf_counter()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        at = step % 2 * batch
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(images[at : at + batch]), labels[at : at + batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(f"{batch * steps / (time.perf_counter() - start):.2f} images/s")


if __name__ == "__main__":
    main()
