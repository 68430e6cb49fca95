"""Stage 2: reviews become records, units are split, contributions bounded."""
