"""SVG-LP over label maps (Lee et al. 2021) and over RGB (Denton & Fergus 2018)."""
