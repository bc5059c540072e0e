#!/usr/bin/env python3
"""agent-medical: listens to what somebody suffers from, gives no diagnosis, and hands over to a person when it should.

    python3 samples/agents/medical.py --listen 127.0.0.1:9102 --human USER_ID
    colloquy agent --id agent-medical --key-file medical.key --service http://127.0.0.1:9102/

The person is told by a message of their own, end to end encrypted, who needs them and why; once, whatever is killed.
"""

import argparse
import re

from service import serve

URGENT = re.compile(r"chest pain|can(no|')t breathe|unconscious|stroke|bleeding|suicid|overdose", re.IGNORECASE)
WANTS_HUMAN = re.compile(r"\b(human|doctor|nurse|real person)\b", re.IGNORECASE)
SINCE = re.compile(r"\b(since|for) (.+)|\byesterday\b|\btoday\b|\bdays?\b|\bweeks?\b", re.IGNORECASE)
HANDED_OVER = "A person has been told and will write to you."


def hand_over(question, human, why):
    told = [line["text"] for line in question.get("history", []) if line["role"] == "user"][-3:]
    note = "\n".join([f"{question['user_id']} needs you: {why}.", *(f"> {text}" for text in [*told, question["text"]])])
    return {"text": f"{why.capitalize()}. {HANDED_OVER}", "tell": [{"user_id": human, "text": note[:8000]}]}


def answer(question, human):
    text = question["text"]
    if URGENT.search(text):
        return hand_over(question, human, "this sounds urgent: call an ambulance now")
    if any(HANDED_OVER in line["text"] for line in question.get("history", []) if line["role"] == "assistant"):
        return HANDED_OVER
    if WANTS_HUMAN.search(text):
        return hand_over(question, human, "you want to speak with a person")
    asked = any(line["text"].startswith("Since when") for line in question.get("history", []))
    if not SINCE.search(text) and not asked:
        return "Since when do you have this, and how bad is it from 1 to 10?"
    return "Rest, drink enough, and write again if it gets worse. Write \"doctor\" to speak with a person."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:9102", metavar="ADDRESS")
    parser.add_argument("--human", required=True, metavar="USER_ID", help="whom to hand over to")
    options = parser.parse_args()
    serve("agent-medical", options.listen, lambda question: answer(question, options.human))


if __name__ == "__main__":
    main()
