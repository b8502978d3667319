//! The client against servers of our own.
