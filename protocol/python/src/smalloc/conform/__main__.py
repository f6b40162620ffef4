"""`python -m smalloc.conform`."""

import sys

from ._cli import main

sys.exit(main())
