"""The HTTP API: one router per noun, and every refusal a sentence."""
