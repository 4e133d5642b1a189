"""`python -m penstock`: the same as the command `penstock`."""

import sys

from penstock._cli import entry

if __name__ == "__main__":
    sys.exit(entry())
