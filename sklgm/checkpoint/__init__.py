"""Progress of a fit, saved to files so that a later fit resumes from it."""
