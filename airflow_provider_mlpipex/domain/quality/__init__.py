"""What must hold for a table: expectations as a manifest names them, their catalogue, and the report of a check."""
