"""Channel cases whose channels are moved: flattened, concatenated, split, shuffled, padded."""

from typing import Any

import torch
import torch.nn.functional as F
from case_registry import Classifier, case, conv
from torch import Tensor, nn


@case("flatten_linear")
class FlattenLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16, 3), conv(16, 8, 3)
        self.fc = nn.Linear(8 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c2(self.c1(x).relu()).relu().flatten(1))


@case("flatten_adaptive55")
class FlattenAdaptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.bn = conv(3, 16, 3), conv(16, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 25, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.c2(self.c1(x).relu()))
        return self.fc(F.adaptive_avg_pool2d(y, 5).flatten(1))


@case("flatten_hardcoded_view")
class FlattenHardcodedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.fc = conv(3, 8, 3), nn.Linear(8 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c1(x).relu().view(-1, 8 * 16 * 16))


@case("channels_last_permute_flatten")
class PermuteFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.fc = conv(3, 8, 3), nn.Linear(8 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c1(x).relu().permute(0, 2, 3, 1).flatten(1))


@case("cat_xx")
class CatTwice(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(32, 16)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        return self.c2(torch.cat([y, y], 1))


@case("dense_cat_bn")
class DenseBlock(Classifier):
    def __init__(self) -> None:
        super().__init__(32)
        self.c1, self.b1 = conv(3, 16, 3), nn.BatchNorm2d(16)
        self.c2, self.b2 = conv(16, 8, 3), nn.BatchNorm2d(24)
        self.c3, self.b3 = conv(24, 8, 3), nn.BatchNorm2d(32)

    def features(self, x: Tensor) -> Tensor:
        a = self.c1(x)
        b = self.c2(self.b1(a).relu())
        c = self.c3(self.b2(torch.cat([a, b], 1)).relu())
        return self.b3(torch.cat([a, b, c], 1)).relu()


@case("cat_negdim")
class CatNegativeDim(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 16), conv(3, 8), conv(24, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c3(torch.cat([self.c1(x), self.c2(x)], -3))


@case("cat_with_input")
class CatWithInput(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(19, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(torch.cat([x, self.c1(x)], 1))


@case("chunk2")
class Chunk(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 32), conv(16, 16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.c1(x).chunk(2, 1)
        return self.c2(a) + self.c3(b)


@case("chunk2_glu")
class Gated(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 32), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.c1(x).chunk(2, 1)
        return self.c2(a * b.sigmoid())


@case("split_hardcoded")
class SplitHardcoded(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 24), conv(8, 16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.c1(x).split([8, 16], 1)
        return self.c2(a) + self.c3(b)


@case("c2f_block")
class SplitAndGather(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.m, self.cv2 = conv(3, 32), conv(16, 16, 3), conv(48, 16)

    def features(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        parts.append(self.m(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


@case("slice_channels")
class SliceChannels(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 32), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x)[:, :16])


@case("channel_shuffle_view")
class ChannelShuffle(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16, groups=2)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        batch, channels, height, width = y.shape
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return self.c2(y.view(batch, -1, height, width))


@case("pixel_shuffle")
class PixelShuffle(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.ps, self.c2 = conv(3, 16), nn.PixelShuffle(2), conv(4, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.ps(self.c1(x)))


@case("upsample_cat_unet")
class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16, 3), conv(16, 32, 3, stride=2)
        self.c3, self.o = conv(48, 16, 3), conv(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c1(x).relu()
        return self.o(self.c3(torch.cat([F.interpolate(self.c2(y), scale_factor=2), y], 1)))


@case("pad_channels_resnet_A")
class PaddedShortcut(Classifier):
    def __init__(self) -> None:
        super().__init__(32)
        self.c1, self.c2 = conv(3, 16, 3), conv(16, 32, 3, stride=2)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x).relu()
        return self.c2(y) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))


@case("output_is_residual")
class OutputIsResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.o = conv(3, 16), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.o(self.c1(x).relu())


@case("dict_output")
class DictOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.o, self.a = conv(3, 16), conv(16, 4), conv(16, 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.c1(x).relu()
        return {"out": self.o(y), "aux": [self.a(y)]}
