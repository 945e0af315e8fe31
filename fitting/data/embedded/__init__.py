"""The data that come with the package; see PROVENANCE.md beside this file."""
