"""``python -m bnnbench`` is ``bnnbench``."""

import sys

from bnnbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
