"""SVG-LP over label maps (Lee et al. 2021) and over RGB (Denton & Fergus 2018).

These are the public import paths: configs and checkpoints contain them; files may move.
"""

from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork
from hvp.structure.svg_lp.rgb import PixelNetwork, PixelSVGLP

__all__ = ["SVGLP", "PixelNetwork", "PixelSVGLP", "SVGLPNetwork"]
