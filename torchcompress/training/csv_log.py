"""The history of a training as a CSV file."""

import csv
import io
from pathlib import Path

from torchcompress.core.files import write_text
from torchcompress.training.callback import Callback, Run
from torchcompress.training.paths import require_folder


class CSVLog(Callback):
    """Writes one line for each epoch; a resumed training keeps the earlier lines.

    Args:
        path: The file, replaced as a whole after each epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, run: Run) -> None:
        """Makes sure that the folder exists before anything is trained."""
        require_folder(self.path)

    def on_epoch_end(self, run: Run) -> None:
        """Writes the history so far."""
        text = io.StringIO()
        columns = dict.fromkeys(name for row in run.history for name in row)
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.history)
        write_text(self.path, text.getvalue())
