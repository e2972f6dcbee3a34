"""The values that the parts of a host exchange about attempts, and the masking of credentials in them."""
