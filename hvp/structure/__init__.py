"""Structure generators (stage one): stochastic prediction of label maps with SVG-LP."""
