"""Images: files, arrays and named sets become uint8 pixels, and pixels become files again."""
