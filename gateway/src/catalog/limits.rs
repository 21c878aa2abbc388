pub use tidegate_protocol::limits::*;
pub const DEFINITION_BYTES_MAX: usize = 2048;
pub const DEFINITION_DEPTH_MAX: usize = 8;
pub const DEFINITION_NODES_MAX: usize = 256;
pub const KIND_NAME_BYTES_MAX: usize = 32;
pub const FIELD_NAME_BYTES_MAX: usize = 64;
pub const UNIT_BYTES_MAX: usize = 16;
