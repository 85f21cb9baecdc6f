"""What several rooms need and what knows nothing of them: devices, labels, tables, pictures."""
