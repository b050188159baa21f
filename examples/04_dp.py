"""Level 3: client-level differential privacy, with noise at the server and a ledger at every site.

Every client clips its update; the server adds discrete Gaussian noise to the sum before anybody else sees it.
What is released then says little about whether any one hospital took part. The server itself sees the updates
(this is `dp` around `plain`), so this level protects against those who see the models, not against the server.

One run's epsilon says nothing of the runs before it, so each site keeps a ledger on its own disk: a budget for its
data, paid from before each round. Three runs of epsilon 50 do not fit into 100. In the third the sites refuse.

With eight clients the price is high: noise that hides one of eight hides much of the rest too. Plan first, and
see what more clients buy:

    secagg plan --backend dp --clients 1000 --rounds 15 --set target_epsilon=8
"""

import tempfile
from pathlib import Path

from report import train

from dp.book import Budget
from dp.ledger import read_book
from secagg.errors import Aborted

BUDGET = Budget(population="digits", epsilon=100.0, delta=1e-5)

with tempfile.TemporaryDirectory() as folder:
    ledgers = (f"privacy.ledger={folder}", f"privacy.ledger_epsilon={BUDGET.epsilon}")
    noise = ("privacy.backend=dp", "privacy.target_epsilon=50")
    for clipping in (
        ("privacy.clip_l2=1.0",),
        # The bound begins much too low and follows the median of the clients' norms; the bit that tells it is paid for.
        ("privacy.clipping=adaptive", "privacy.clip_l2=0.1", "privacy.clip_learning_rate=1.0"),
        ("privacy.clip_l2=1.0",),
    ):
        print(f"target epsilon 50, {', '.join(clipping)}")
        try:
            train(*noise, *clipping, *ledgers)
        except Aborted as error:
            print(f"refused     {str(error).partition('(')[2].partition(';')[0]}")
        book = read_book(Path(folder) / "client-0.ledger")
        print(f"ledger      client-0 has spent {book.epsilon(BUDGET):.2f} of {BUDGET.epsilon:g}\n")
