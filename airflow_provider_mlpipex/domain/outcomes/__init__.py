"""Labels that come late, beside the predictions they belong to."""
