#!/usr/bin/env python3
"""agent-auditor: keeps account of the amounts that somebody mentions, and says what does not add up.

    python3 samples/agents/auditor.py --listen 127.0.0.1:9101
    colloquy agent --id agent-auditor --key-file auditor.key --service http://127.0.0.1:9101/

Write it "lunch 12.50", "taxi 31", "audit" and "pay". It remembers nothing itself: what was said comes with every question.
It pays nothing out without consent: `agent.approval.request`.
"""

import argparse
import re
from collections import Counter
from decimal import Decimal

from service import serve

ENTRY = re.compile(r"^\s*(?P<what>.*?\S)\s+(?P<amount>\d{1,9}(?:\.\d{1,2})?)\s*$")


def entries(texts):
    """What was spent on what, as far as it was said so."""
    found = (ENTRY.match(text) for text in texts)
    return [(entry["what"].lower(), Decimal(entry["amount"])) for entry in found if entry]


def decided(approval):
    """What was asked for, and the verdict on it, signed by a device of whoever decided. It comes once."""
    if approval["verdict"] != "approved":
        return "Nothing was paid out."
    return f"Paid out {approval['arguments']['amount']}."


def answer(question):
    if "approval" in question:
        return decided(question["approval"])
    said = [line["text"] for line in question.get("history", []) if line["role"] == "user"]
    text = question["text"]
    if text.strip().lower() == "pay":
        total = sum((amount for _, amount in entries(said)), Decimal(0))
        wanted = {"action": "pay-out", "arguments": {"amount": str(total)}, "expires_in_seconds": 600}
        return {"text": f"I would pay out {total}.", "approval_request": wanted}
    if text.strip().lower() != "audit":
        if not entries([text]):
            return 'Write what and how much, such as "lunch 12.50", or "audit" or "pay".'
        return f"Noted: {len(entries(said + [text]))} entries."
    book = entries(said)
    lines = [f"{what}: {amount}" for what, amount in book]
    lines.append(f"total: {sum((amount for _, amount in book), Decimal(0))}")
    lines += [f"twice? {what} {amount}" for (what, amount), times in Counter(book).items() if times > 1]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:9101", metavar="ADDRESS")
    serve("agent-auditor", parser.parse_args().listen, answer)


if __name__ == "__main__":
    main()
