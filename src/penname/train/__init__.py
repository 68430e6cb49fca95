"""Stage 3: the two arms, with and without differential privacy, from one loop."""
