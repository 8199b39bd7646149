"""Data that ships with the package; see NOTICE.md for where it comes from."""
