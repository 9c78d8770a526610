"""Whether the long tests take more seeds than CI has time for: `THOROUGH=1 make soak`."""

import os

THOROUGH = bool(os.environ.get("THOROUGH"))
