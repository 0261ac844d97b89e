//! An engine that is not there, refuses, hangs, ends its streams, and says what nobody has heard before.
