"""The local web page: runs, reports, records, and blind human evaluation. It looks at what the stages left, and writes ratings and nothing else."""
