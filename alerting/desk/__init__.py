"""The desk of a two-way comune, on the database: what citizens report, which appointments they have, what they read."""
