"""Makes the toy search importable by name, also in the processes that workers run in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
