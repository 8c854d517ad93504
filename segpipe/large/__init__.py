"""An image too large to be seen whole: looked at part by part, by as many workers as there are.

    look over      the range of its values, one magnification: they hold for all parts   one worker
    look at        a row of tiles: read, through the model, what was found is kept       any worker
    put together   what all tiles found, to the objects of the image                     one worker
    project        label image, pyramid and measures, block by block                     one worker

What was kept lies in `units/` of the store, under the image's version and the spec; so a run that
was killed goes on inside the image, and whatever is missing may be made by anybody. The image's own
commit is its chunk's: `pipeline` shows where these four steps come.
"""
