"""What a run would promise, spend and take, before it touches anything."""
