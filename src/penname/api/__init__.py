"""penname in Python and in notebooks: the calls, and what they return."""
