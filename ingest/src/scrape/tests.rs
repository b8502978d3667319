//! Jobs against servers on loopback, over a shelf.
