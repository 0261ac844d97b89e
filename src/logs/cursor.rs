//! How far a route is acknowledged, on disk.
