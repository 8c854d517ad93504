"""What may go wrong, done on purpose many times over; one module for each kind of trouble.

A scenario injects one fault after another and yields, after each, what is wrong with the store
then: nothing, if segpipe keeps its promises. `catalogue` lists them all.
"""
