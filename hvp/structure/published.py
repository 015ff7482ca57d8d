"""Earlier name of `python -m hvp.structure.svg_lp.published`, which it runs."""

from hvp.structure.svg_lp.published import main

if __name__ == "__main__":
    raise SystemExit(main())
