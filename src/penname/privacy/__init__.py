"""The privacy core: knows no language model, no review, no rank, and imports nothing else of penname. Read README.md first."""
