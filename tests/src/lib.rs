//! trilobite-tests
