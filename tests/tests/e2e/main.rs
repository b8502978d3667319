//! End to end: the real binary over the network, as its users drive it.

mod bad_input;
mod command_line;
mod crash;
mod lab;
mod recovery;
mod senders;
