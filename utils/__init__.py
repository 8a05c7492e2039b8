"""Helpers that do not depend on faces: errors, files, command lines, weights files, processes, videos."""
