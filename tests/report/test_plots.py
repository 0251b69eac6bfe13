"""Plots against what they are made from."""

from torchcompress.quantization import LayerSensitivity, Sensitivity
from torchcompress.report.plots import sensitivity_plot


def test_sensitivity_shows_the_most_sensitive_layers_first() -> None:
    noises = {"stem.conv": 1e-2, "head": 1e-4, "silent": 0.0}
    rows = tuple(LayerSensitivity(name, "conv2d", "", noise) for name, noise in noises.items())
    svg = sensitivity_plot(Sensitivity(rows), most=2)
    assert svg.startswith("<svg")
    assert svg.index("stem.conv") < svg.index(">head<")
    assert "10 %" in svg
    assert "1 %" in svg
    assert "silent" not in svg
    assert svg == sensitivity_plot(Sensitivity(rows), most=2)
