"""Channel cases about raw parameters, tables, sequences and attention."""

import torch
import torch.nn.functional as F
from case_registry import Classifier, case, conv, tokens
from torch import Tensor, nn


def word_ids() -> Tensor:
    return torch.randint(0, 50, (2, 5))


def signal() -> Tensor:
    return torch.randn(2, 4, 10)


@case("tied_weights", word_ids)
class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.l = nn.Embedding(50, 16), nn.Linear(16, 16)
        self.o = nn.Linear(16, 50, bias=False)
        self.o.weight = self.e.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.l(self.e(x)))


@case("raw_param_scale_c11")
class RawScale(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16)
        self.g = nn.Parameter(torch.rand(16, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x) * self.g)


@case("raw_param_matmul")
class RawMatmul(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.fc = conv(3, 16), nn.Linear(16, 10)
        self.g = nn.Parameter(torch.rand(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c1(x).mean((2, 3)) @ self.g)


@case("buffer_scale")
class BufferScale(Classifier):
    g: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv(3, 16), conv(16, 16)
        self.register_buffer("g", torch.rand(1, 16, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x) * self.g)


@case("layernorm_chlast")
class LayerNormChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.g = conv(3, 16), nn.LayerNorm(16)
        self.c2, self.c3 = nn.Linear(16, 32), nn.Linear(32, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.g(self.c1(x).permute(0, 2, 3, 1))
        return self.fc(self.c3(F.gelu(self.c2(y))).mean((1, 2)))


@case("mha_module", tokens)
class AttentionModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.m = nn.Linear(8, 32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.n, self.fc = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c1(x)
        return self.fc(self.n(y + self.m(y, y, y)[0]).mean(1))


@case("timm_qkv_attention", tokens)
class PackedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.qkv = nn.Linear(8, 32), nn.Linear(32, 96)
        self.proj, self.fc = nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.e(x)
        batch, count, width = y.shape
        packed = self.qkv(y).reshape(batch, count, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        q, k, v = packed.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.fc((y + self.proj(mixed.reshape(batch, count, width))).mean(1))


@case("cls_token_pos")
class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.l = nn.Conv2d(3, 32, 8, stride=8), nn.Linear(32, 32)
        self.n, self.fc = nn.LayerNorm(32), nn.Linear(32, 10)
        self.cls = nn.Parameter(torch.randn(1, 1, 32))
        self.pos = nn.Parameter(torch.randn(1, 5, 32))

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.cls.expand(y.shape[0], -1, -1), y], 1) + self.pos
        return self.fc(self.n(self.l(y))[:, 0])


@case("einsum_bilinear", tokens)
class EinsumBilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.fc = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.einsum("bnc,bmc->bnm", self.c1(x), self.c2(x)))


@case("lstm_after_cnn", signal)
class LstmAfterCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv1d(4, 16, 3, padding=1)
        self.l, self.fc = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.l(self.c1(x).transpose(1, 2))[0][:, -1])
