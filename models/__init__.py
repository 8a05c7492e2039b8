"""The networks of the paper and their losses; one file a network. Nothing here reads or writes files."""
