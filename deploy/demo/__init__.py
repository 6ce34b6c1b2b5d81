"""Demonstration data and the story of one seat, played against a running stack."""
