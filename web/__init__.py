"""The page in the browser: what it shows, and what it lets in."""
