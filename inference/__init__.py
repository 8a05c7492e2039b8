"""Reenactment as a pipeline to call: inputs, faces, networks, results. The scripts hold command lines and loops."""
