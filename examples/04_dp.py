"""Level 3: client-level differential privacy, with noise at the server.

Every client clips its update; the server adds discrete Gaussian noise to the sum before anybody else sees it.
What is released then says little about whether any one hospital took part. The server itself sees the updates
(this is `dp` around `plain`), so this level protects against those who see the models, not against the server.

With eight clients the price is high: noise that hides one of eight hides much of the rest too. Plan first, and
see what more clients buy:

    secagg plan --backend dp --clients 1000 --rounds 15 --set target_epsilon=8
"""

from report import train

for target in (200, 50):
    print(f"target epsilon {target}")
    train("privacy.backend=dp", f"privacy.target_epsilon={target}", "privacy.clip_l2=1.0")
