"""The stack in containers: what its servers are started with, and the test that brings it all up."""
