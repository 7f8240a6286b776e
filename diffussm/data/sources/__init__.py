"""Where images come from: folders, archives and the files of well-known data sets, behind one interface (`base`).

A source lists its images and returns the content of each; `image_file` decodes it, the same way for all. Nothing here
unpickles or extracts anything to the disk.
"""
