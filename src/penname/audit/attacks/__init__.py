"""One attack a file: from the evidence of an audit to its findings."""
