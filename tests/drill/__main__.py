"""Entry point of the drill; see the package's docstring."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.drill.faults import damage_files
from tests.drill.kills import PIPELINE, kill_and_go_on
from tests.drill.tally import Tally


def main() -> None:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(prog="make drill", description="Kill and damage, and count.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=12, help="signals sent to a pipeline")
    parser.add_argument("--faults", type=int, default=40, help="damages of each kind of file")
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        damage_files(Path(folder) / "files", options.seed, options.faults, tally)
        kill_and_go_on(Path(folder) / "runs", options.seed, options.kills, tally, PIPELINE)
    tally.show()
    sys.exit(tally.bad > 0)


if __name__ == "__main__":
    main()
