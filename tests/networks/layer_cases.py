"""Channel cases about layers: residuals, groups, gates, norms per channel, shared layers."""

import torch
import torch.nn.functional as F
from case_registry import Classifier, case, conv
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@case("residual")
class Residual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16, 3), conv(16, 16, 3)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        return (y + self.c2(y.relu())).relu()


@case("group_conv")
class GroupConv(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 16), nn.Conv2d(16, 32, 3, groups=4), conv(32, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c3(self.c2(self.c1(x)).relu())


@case("group_conv_residual")
class GroupConvResidual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16, 3, groups=4)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        return y + self.c2(y)


@case("depthwise")
class Depthwise(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 16), nn.Conv2d(16, 16, 3, groups=16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c3(self.c2(self.c1(x)).relu())


@case("depthwise_multiplier2")
class DepthwiseMultiplier(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 16), nn.Conv2d(16, 32, 3, groups=16), conv(32, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c3(self.c2(self.c1(x)).relu())


@case("conv_transpose")
class ConvTranspose(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.t = conv(3, 16), nn.ConvTranspose2d(16, 32, 2, stride=2)
        self.b, self.c2 = nn.BatchNorm2d(32), conv(32, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.b(self.t(self.c1(x))))


@case("conv_transpose_grouped")
class ConvTransposeGrouped(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(32, 16)
        self.t = nn.ConvTranspose2d(16, 32, 2, stride=2, groups=4)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.t(self.c1(x)))


@case("se_block")
class SqueezeExcite(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16)
        self.f1, self.f2 = conv(16, 4), conv(4, 16)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        gate = self.f2(self.f1(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.c2(y * gate)


@case("se_linear_view")
class SqueezeExciteLinear(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16)
        self.f1, self.f2 = nn.Linear(16, 4), nn.Linear(4, 16)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        batch, channels, _, _ = y.shape
        gate = self.f2(self.f1(y.mean((2, 3)).view(batch, channels)).relu()).sigmoid()
        return self.c2(y * gate.view(batch, channels, 1, 1).expand_as(y))


@case("shared_conv")
class SharedConv(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c2(self.c1(x)).relu())


@case("instancenorm_tracked")
class InstanceNormTracked(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16)
        self.g = nn.InstanceNorm2d(16, affine=True, track_running_stats=True)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.g(self.c1(x)).relu())


@case("prelu")
class Prelu(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.p, self.c2 = conv(3, 16), nn.PReLU(16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.p(self.c1(x)))


@case("frozen_params")
class FrozenParameters(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16).requires_grad_(False), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x).relu())


@case("no_grad_branch")
class NoGradBranch(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.a, self.c2 = conv(3, 16), conv(16, 16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        with torch.no_grad():
            branch = self.a(y)
        return self.c2(y + branch)


@case("weight_norm")
class WeightNorm(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = parametrizations.weight_norm(conv(3, 16)), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x).relu())


@case("unused_layer")
class UnusedLayer(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.u, self.c2 = conv(3, 16), conv(16, 16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x).relu())


@case("max_over_channels_cbam")
class SpatialAttention(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.sa, self.c2 = conv(3, 16), conv(2, 1, 7), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        seen = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return self.c2(y * self.sa(seen).sigmoid())


@case("groupnorm")
class GroupNorm(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.g, self.c2 = conv(3, 16), nn.GroupNorm(4, 16), conv(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.c2(F.relu(self.g(self.c1(x))))
