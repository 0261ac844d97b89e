//! The engine: its API, its events, and the inventory of containers that they feed.
