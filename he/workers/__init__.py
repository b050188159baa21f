"""Worker processes for native code: more than one core, and a crash that takes nothing with it.

SEAL holds Python's lock while it computes, so a second core needs a second process; and SEAL is native code that
reads what peers wrote, so it had better not be in the process that holds the sum. `run` spreads the items of a
vector (a ciphertext each) over the workers; with `use(0)` it does the same work in this process, one item after the
other. `spread` is for numpy alone, which lets other threads run: threads, and nothing is copied.

Workers are started when they are first needed, by executing the interpreter anew: no fork, so none shares memory or
the state of a random generator with another. They end with this process, however it ends. Work, keys included, reaches
them through anonymous shared memory that exists for one call: never a file, never a command line.

Guarantee: a worker that dies, or takes over a minute for one piece of work, costs that one call: `Lost` is raised,
nothing is returned, and the next call has a new worker. What a worker answers is parsed as numbers and text alone.
"""

from he.workers.pool import Lost, Task, Work, run
from he.workers.threads import blocks, spread
from secagg.cores import use_workers as use

__all__ = ["Lost", "Task", "Work", "blocks", "run", "spread", "use"]
