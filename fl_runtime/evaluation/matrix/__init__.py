"""What is asked: settings from a file, the parts they name, and every combination of them as a job."""
