"""The history of a training as a CSV file."""

import csv
import io
from pathlib import Path

from torchcompress.core.errors import CompressError
from torchcompress.core.files import write_text
from torchcompress.training.callback import Callback, Run
from torchcompress.training.paths import require_writable


class CSVLog(Callback):
    """Writes one line for each epoch; a resumed training keeps the earlier lines.

    Args:
        path: The file, replaced as a whole after each epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, run: Run) -> None:
        """Makes sure that the file can be made before anything is trained."""
        require_writable(self.path)

    def on_epoch_end(self, run: Run) -> None:
        """Writes the history so far.

        Raises:
            CompressError: The file cannot be written; an earlier one is intact.
        """
        text = io.StringIO()
        columns = dict.fromkeys(name for row in run.history for name in row)
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.history)
        try:
            write_text(self.path, text.getvalue())
        except OSError as error:
            raise CompressError(
                f"the log could not be written: {error.strerror}", where=str(self.path)
            ) from error
