"""How good a ranking is, and how sure one can be of it: numpy alone, no torch."""
