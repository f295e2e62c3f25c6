"""Checkpoints in other people's layouts, read into ours: LLaVA's own folders, NeMo's archives.

A reader (`llava`, `nemo`) says what is there (`found`), tensor by tensor and unread; `write` makes
a checkpoint of it. What is not wholly understood is refused: nothing is dropped or made up in
silence, and no file is ever given the chance to run code (`pickles`, `archive`).
"""
