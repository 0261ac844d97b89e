//! A record: its id and its document.
