"""Deprecated name of the importer `python -m hvp.structure.svg_lp.published`."""

from hvp.structure.svg_lp.published import main

if __name__ == "__main__":
    raise SystemExit(main())
