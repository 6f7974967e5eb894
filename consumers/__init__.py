"""What takes from a queue: fan-out, delivery, receipts, inbound; and the ways to reach a person."""
