"""Properties are tried without a time limit: a busy machine is not a fault of the decoder."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
