//! A real engine.
