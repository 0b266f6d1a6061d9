# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure Python: objects, dictionaries, strings, lists.  Prints what it found; no clock, no randomness."""


class Account:
    def __init__(self, name, balance):
        self.name, self.balance, self.history = name, balance, []

    def move(self, other, amount):
        if amount > self.balance:
            raise ValueError(self.name)
        self.balance -= amount
        other.balance += amount
        self.history.append((other.name, amount))


def bank(rounds):
    accounts = {f"acct{n:04}": Account(f"acct{n:04}", 1000 + n) for n in range(500)}
    names, failed, x = sorted(accounts), 0, 12345
    for _ in range(rounds):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        a, b = accounts[names[x % 500]], accounts[names[(x >> 9) % 500]]
        try:
            a.move(b, x % 700)
        except ValueError:
            failed += 1
    return failed, sum(a.balance * (n + 1) for n, a in enumerate(accounts.values()))


def words(rounds):
    text = " ".join(f"w{(n * n) % 701}x{n % 13}" for n in range(4000))
    counts = {}
    for r in range(rounds):
        for w in text.replace("x", str(r)).split():
            counts[w] = counts.get(w, 0) + len(w.upper().strip("W"))
    top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:50]
    return len(counts), "".join(f"{k}={v};" for k, v in top)


def queens(n, row=0, cols=0, d1=0, d2=0):
    if row == n:
        return 1
    total = 0
    for c in range(n):
        a, b, e = 1 << c, 1 << (row + c), 1 << (row - c + n)
        if not (cols & a or d1 & b or d2 & e):
            total += queens(n, row + 1, cols | a, d1 | b, d2 | e)
    return total


def floats(n):
    return sum((i * 0.5) ** 0.5 / (i + 1.25) for i in range(1, n))


print(bank(200000), words(25), queens(8), f"{floats(300000):.9f}")
