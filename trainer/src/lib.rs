//! trainer

pub mod network;
pub mod operators;
