//! The two derives of an event type: `Schema` (its structure) and `EventType` (its name, units and
//! definition).
//!
//! Purpose: a type is written down once, as a Rust struct, and everything that the gateway must
//! know of it follows at compile time. What cannot be an event does not compile, and the error says
//! what, where, and what to do.
//!
//! ```text
//!  struct ─┬─ Schema ────▶ postcard_schema's tree ─┐
//!          └─ EventType ─▶ name, units, scales ────┴─▶ definition, a constant in flash
//! ```
//!
//! Limits: lifetimes, but no type parameters; structs and enums, no unions. The limits of a
//! definition are checked where it is written, in `tidegate_protocol::definition`.
//!
//! What it does not do: it is of no use alone. `tidegate_protocol` re-exports both with examples.

mod event;
mod refuse;
mod schema;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `Schema`: the structure of a struct or an enum as postcard writes it.
#[proc_macro_derive(Schema)]
pub fn schema(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    schema::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Derives `EventType` from `#[event(name = "...", version = 1, owner = "...", description =
/// "...")]` and each field's `#[unit("...", scale = -2)]`.
#[proc_macro_derive(EventType, attributes(event, unit))]
pub fn event_type(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
