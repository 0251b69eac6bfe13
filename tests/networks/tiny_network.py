"""A network outside torchvision that trains in seconds; recipes in tests name its factory."""

from torch import Tensor, nn


def tiny(num_classes: int, width: int = 16) -> nn.Module:
    """Returns a network of two convolutions for images of three channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


def sorting(num_classes: int = 10) -> nn.Module:
    """Builds a network of layers that nothing calls as modules, behind an unknown operation."""

    class Sorting(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            input = input.sort(-1).values
            for layer in self:
                input = layer.forward(input)
            return input

    return Sorting(*tiny(num_classes).children())


def broken(num_classes: int = 10) -> nn.Module:
    """Fails."""
    raise ZeroDivisionError("by design")
