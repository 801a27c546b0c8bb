"""Great Expectations: suites from the manifest, run on tables, read back as results."""
