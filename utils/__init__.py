"""Helpers that know nothing of faces: errors, files, command lines, weights files, processes, pictures, videos."""
