//! A route: from the file table to its sink.
