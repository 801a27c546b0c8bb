"""How single fields are read and written: quantities, column types, YAML with line numbers, refusals."""
