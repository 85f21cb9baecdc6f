"""Images through a backbone: features, random views, and the sums of the real data."""
