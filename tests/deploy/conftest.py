"""What tests of other servers' formats share with the server's and the engine's."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "server"))  # environments of their own, pictures
sys.path.append(str(TESTS / "engine"))  # its tiny checkpoints
sys.path.append(str(TESTS / "model"))  # its small models
