//! The stages of a pipeline, a file per kind.

pub(crate) mod decolorize;
pub(crate) mod ip;
pub(crate) mod json;
pub(crate) mod label_filter;
pub(crate) mod line_filter;
pub(crate) mod logfmt;
pub(crate) mod pattern;
