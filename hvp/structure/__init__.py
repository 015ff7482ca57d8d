"""Stage one: the stochastic recurrent generator of label maps."""
