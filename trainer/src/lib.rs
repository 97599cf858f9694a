//! trainer

pub mod operators;
