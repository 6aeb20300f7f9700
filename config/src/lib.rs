//! Configuration text in, one `Document` out.
