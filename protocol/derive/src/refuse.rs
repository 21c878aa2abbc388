//! What an event type must not be, found in its source, where an error can point at the very word.
//!
//! What it does not do: it sees names, not types. What hides behind another name is found when the
//! definition is written.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, DeriveInput, Error, Field, GenericParam, Result};

/// Types that have no place in an event, and what to use instead.
const TYPES: &[(&str, &str)] = &[
    ("usize", "its size is the machine's: use u16, u32 or u64"),
    ("isize", "its size is the machine's: use i16, i32 or i64"),
    ("u128", "it is wider than the gateway decodes: use u64, or an array of bytes"),
    ("i128", "it is wider than the gateway decodes: use i64, or an array of bytes"),
    ("char", "use a u32 or a string"),
    ("f32", "use an integer with a scale, such as #[unit(\"Cel\", scale = -2)] on an i16 in hundredths"),
    ("f64", "use an integer with a scale, such as #[unit(\"Cel\", scale = -2)] on an i32 in hundredths"),
    ("BTreeMap", "a map has several spellings: use a struct, or a sequence of pairs"),
    ("HashMap", "a map has several spellings: use a struct, or a sequence of pairs"),
];
/// What serde may be told without a change of the bytes.
const SERDE: &[&str] = &["crate", "bound", "borrow", "deny_unknown_fields"];

/// Refuses type parameters.
pub(crate) fn parameters(input: &DeriveInput) -> Result<()> {
    for parameter in &input.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            let why = "an event has no type parameters: each would be another type under one name and version. Write the type out";
            return Err(Error::new_spanned(parameter, why));
        }
    }
    Ok(())
}

/// Refuses fields of types that have no place in an event, and serde's attributes on them.
pub(crate) fn field(field: &Field) -> Result<()> {
    serde(&field.attrs)?;
    word(field.ty.to_token_stream())
}

/// Refuses attributes of serde that change the bytes.
pub(crate) fn serde(attributes: &[Attribute]) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let word = meta.path.to_token_stream().to_string();
            if !SERDE.contains(&word.as_str()) {
                let why = format!(
                    "serde's `{word}` changes the body or its names behind the definition's back: remove it"
                );
                return Err(meta.error(why));
            }
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn word(tokens: TokenStream) -> Result<()> {
    for token in tokens {
        match token {
            TokenTree::Group(group) => word(group.stream())?,
            TokenTree::Ident(ident) => {
                if let Some((name, instead)) = TYPES.iter().find(|(name, _)| ident == name) {
                    return Err(Error::new(
                        ident.span(),
                        format!("{name} has no place in an event: {instead}"),
                    ));
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    Ok(())
}
