"""pmrunbook: change a live Puppet infrastructure safely, one verified step at a time."""

__version__ = "0.1.0"
