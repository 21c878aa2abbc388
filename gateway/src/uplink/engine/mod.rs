//! The engines: what an upstream speaks. Each is a folder of its own.

pub mod mqtt;
