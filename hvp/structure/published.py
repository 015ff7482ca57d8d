"""Deprecated name of the importer `python -m hvp.structure.svg_lp.published`."""

from hvp.signals import orderly_exit
from hvp.structure.svg_lp.published import main

if __name__ == "__main__":
    with orderly_exit():
        raise SystemExit(main())
