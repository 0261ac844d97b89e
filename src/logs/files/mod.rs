//! The file table: every container's log files, held open.
