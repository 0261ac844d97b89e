//! What is kept on disk of lines whose file is going.
