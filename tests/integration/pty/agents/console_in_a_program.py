"""A program that ends in a prompt of its interpreter, as a failing agent does under `python -m pdb`, or one that offers a console.

Arguments: LOG KIND; KIND: `interact`, `pdb`.
"""

import code
import pdb  # noqa: T100  # the agent is one that stops in its debugger
import sys

print("an agent of its own")
if sys.argv[2] == "interact":
    code.interact(banner="", local={})
else:
    pdb.set_trace()  # noqa: T100  # as above
print("done")
