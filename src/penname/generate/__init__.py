"""Stage 4: the adapted model writes new records, conditioned on DP marginals and the public catalogue."""
