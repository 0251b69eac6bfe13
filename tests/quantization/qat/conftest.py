from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.quantization.qat import FreezeSchedule

Train = Callable[..., nn.Module]


class Small(nn.Module):
    """Conv-BN-Dropout as in the issue, a depthwise convolution, a residual sum, two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-3, momentum=0.01)
        self.drop = nn.Dropout(0.2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.second = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.relu(self.norm(self.stem(x))))
        x = self.relu(self.second(self.depthwise(x)) + x)
        x = F.hardswish(self.hidden(x.mean((2, 3))))
        return self.head(F.dropout(x, 0.1, self.training))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small(lively: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return lively(Small())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, 12, 12)


@pytest.fixture
def train() -> Train:
    """Trains a prepared model for a few steps on noise, with its freezing."""

    def run(model: nn.Module, x: Tensor, steps: int = 6, lr: float = 0.05) -> nn.Module:
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
        schedule = FreezeSchedule(model, steps).attach(optimizer)
        for _ in range(steps):
            outputs = model(x + 0.1 * torch.randn_like(x))
            labels = torch.arange(len(x)) % outputs.shape[1]
            optimizer.zero_grad()
            F.cross_entropy(outputs, labels).backward()
            optimizer.step()
        schedule.close()
        return model.eval()

    return run
