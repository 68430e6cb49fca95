"""penname: private text in, synthetic text out, with a differential-privacy guarantee that anyone can check."""

__version__ = "0.1.0"
