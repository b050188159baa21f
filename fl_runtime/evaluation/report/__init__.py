"""What is shown: the rows in words, figures and pictures, as a page, as Markdown and as JSON."""
