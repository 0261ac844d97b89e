//! Lines out of entries: parts joined for each container and stream.
