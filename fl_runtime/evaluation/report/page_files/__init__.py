"""The page's template, style sheet and script: data of `page`."""
