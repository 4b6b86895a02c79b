"""What the generated routes call: from HTTP to the reader and back."""
