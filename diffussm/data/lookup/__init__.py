"""From the name of a data set to what is known of it before it is loaded. No torch, no NumPy.

`facts` finds an embedded set in the catalogue, an external class (`external`), or a prepared data set by its manifest;
`resolution` makes a config that fits it.
"""
