"""Several processes: the only room that names torch.distributed or Ray. It knows no record, no model and no stage; functions are passed in."""
