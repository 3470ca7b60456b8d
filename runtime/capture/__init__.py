"""Opens cameras, files, folders, URLs and pipes, and delivers their frames."""
