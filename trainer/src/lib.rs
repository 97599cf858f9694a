//! trainer

pub mod augment;
pub mod batch;
pub mod checkpoint;
pub mod device;
pub mod hyperparameters;
pub mod memory;
pub mod network;
pub mod objective;
pub mod operators;
pub mod schedule;
pub mod train;
