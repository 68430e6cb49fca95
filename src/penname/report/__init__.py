"""Report: what was promised, what was spent and what it cost, on one page that opens with no network."""
