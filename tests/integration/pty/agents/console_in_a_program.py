"""A program that ends in a prompt of its interpreter, as a failing agent does under `python -m pdb`, or one that offers a console.

Arguments: LOG KIND; KIND: `interact`, `pdb`.
"""

import code
import pdb
import sys

print("an agent of its own")
if sys.argv[2] == "interact":
    code.interact(banner="", local={})
else:
    pdb.set_trace()
print("done")
