"""`python -m torchcompress`."""

import sys

from torchcompress.cli import main

if __name__ == "__main__":
    sys.exit(main())
