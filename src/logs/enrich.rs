//! Who wrote a record: the part of a document that is the same for every line of a container.
