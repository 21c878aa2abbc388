//! `EventType`: name, version, owner and description of a struct, and the unit and scale of each
//! field.
//!
//! Limits: a name of 1 to 32 of `[a-z0-9_-]`, a version from 1; units are checked against
//! `tidegate_protocol::units` by the code that comes out.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, FieldsNamed, GenericParam, Lit,
    LitInt, LitStr, Meta, Result, Token, ext::IdentExt, parse::ParseStream,
};

use crate::refuse;

/// As `limits::KIND_NAME_BYTES_MAX` of `tidegate_protocol`, which checks it again.
const NAME_BYTES_MAX: usize = 32;
const HOW: &str =
    "write #[event(name = \"soil\", version = 1, owner = \"...\", description = \"...\")] above the struct";

struct Event {
    name: LitStr,
    version: LitInt,
    owner: LitStr,
    description: LitStr,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    refuse::parameters(input)?;
    let Event { name, version, owner, description } = Event::read(input)?;
    let fields = named_fields(input)?;
    let lines = fields.named.iter().map(|field| field_line(field, &name)).collect::<Result<Vec<_>>>()?;
    let (checks, lines): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
    let ident = &input.ident;
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    let statics = input.generics.params.iter().map(|parameter| match parameter {
        GenericParam::Lifetime(_) => quote!('static),
        _ => unreachable!("invariant: refused above"),
    });
    // Errors of the definition point at the type's name.
    let measured = quote_spanned! { ident.span() =>
        const BYTES: usize = match definition::measure(NAME, VERSION, BODY, FIELDS) {
            Ok(bytes) => bytes,
            Err(error) => ::core::panic!("{}", error.why()),
        };
    };
    Ok(quote! {
        const _: () = {
            use ::tidegate_protocol::{definition, events, Kind};
            use ::tidegate_protocol::postcard_schema::{Schema, schema::NamedType};
            const NAME: &str = #name;
            const VERSION: u8 = #version;
            const FIELDS: &[events::Field] = &[#(#lines),*];
            const BODY: &NamedType = <#ident<#(#statics),*> as Schema>::SCHEMA;
            #(#checks)*
            #measured
            static DEFINITION: [u8; BYTES] = definition::encode(NAME, VERSION, BODY, FIELDS);
            #[automatically_derived]
            impl #parameters events::EventType for #ident #arguments #bounds {
                const NAME: &'static str = NAME;
                const VERSION: u8 = VERSION;
                const OWNER: &'static str = #owner;
                const DESCRIPTION: &'static str = #description;
                const FIELDS: &'static [events::Field] = FIELDS;
                const KIND: Kind = Kind { name: NAME, version: VERSION, definition: &DEFINITION };
            }
        };
    })
}

impl Event {
    fn read(input: &DeriveInput) -> Result<Self> {
        let missing = |what: &str| Error::new_spanned(&input.ident, format!("{what}: {HOW}"));
        let attribute = input.attrs.iter().find(|attribute| attribute.path().is_ident("event"));
        let attribute = attribute.ok_or_else(|| missing("an event type has a name and a version"))?;
        let (mut name, mut version, mut owner, mut description) = (None, None, None, None);
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                name = Some(meta.value()?.parse::<LitStr>()?);
            } else if meta.path.is_ident("version") {
                version = Some(meta.value()?.parse::<LitInt>()?);
            } else if meta.path.is_ident("owner") {
                owner = Some(meta.value()?.parse::<LitStr>()?);
            } else if meta.path.is_ident("description") {
                description = Some(meta.value()?.parse::<LitStr>()?);
            } else {
                return Err(meta.error("an event has name, version, owner and description"));
            }
            Ok(())
        })?;
        let event = Event {
            name: name.ok_or_else(|| missing("the event type has no name"))?,
            version: version.ok_or_else(|| missing("the event type has no version"))?,
            owner: owner.ok_or_else(|| missing("nobody is named who answers for the event type"))?,
            description: description.ok_or_else(|| missing("the event type has no description"))?,
        };
        event.checked()
    }

    fn checked(self) -> Result<Self> {
        let name = self.name.value();
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            let why = format!(
                "the name of an event type is 1 to {NAME_BYTES_MAX} of a-z, 0-9, _ and -, this one has {} bytes",
                name.len()
            );
            return Err(Error::new_spanned(&self.name, why));
        }
        if !self.version.base10_parse::<u8>().is_ok_and(|version| version > 0) {
            return Err(Error::new_spanned(&self.version, "the version of an event type is 1 to 255"));
        }
        Ok(self)
    }
}

fn named_fields(input: &DeriveInput) -> Result<&FieldsNamed> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => Ok(fields),
            _ => Err(Error::new_spanned(
                &input.ident,
                "an event type has named fields: give each value a name",
            )),
        },
        Data::Enum(_) | Data::Union(_) => {
            Err(Error::new_spanned(&input.ident, "an event type is a struct: put the enum into a field"))
        }
    }
}

/// A check of the field's unit, and its line in FIELDS.
fn field_line(field: &Field, event: &LitStr) -> Result<(TokenStream, TokenStream)> {
    refuse::field(field)?;
    let name = field.ident.as_ref().map(|ident| ident.unraw().to_string()).unwrap_or_default();
    let (unit, scale_exp10) = unit(field)?;
    let description = doc(&field.attrs);
    let why = format!(
        "event type `{}`, field `{name}`: the unit `{}` is not one of SenML's (RFC 8428 section 12.1, RFC 8798; the table is \
         tidegate_protocol::units::UNITS): take one of these with a scale, or \"\" for a plain number",
        event.value(),
        unit.value(),
    );
    let check = quote_spanned! { unit.span() =>
        const _: () = ::core::assert!(::tidegate_protocol::units::is_unit(#unit), #why);
    };
    let line = quote! {
        events::Field { name: #name, unit: #unit, scale_exp10: #scale_exp10, description: #description }
    };
    Ok((check, line))
}

/// The unit and the scale of a field; none is a plain number.
fn unit(field: &Field) -> Result<(LitStr, i8)> {
    let Some(attribute) = field.attrs.iter().find(|attribute| attribute.path().is_ident("unit")) else {
        let span = field.ident.as_ref().map_or_else(proc_macro2::Span::call_site, syn::Ident::span);
        return Ok((LitStr::new("", span), 0));
    };
    attribute.parse_args_with(|input: ParseStream<'_>| {
        let unit = input.parse::<LitStr>()?;
        if input.is_empty() {
            return Ok((unit, 0));
        }
        input.parse::<Token![,]>()?;
        let word = input.parse::<syn::Ident>()?;
        if word != "scale" {
            return Err(Error::new(word.span(), "a unit may have a scale: #[unit(\"Cel\", scale = -2)]"));
        }
        input.parse::<Token![=]>()?;
        let minus = input.parse::<Option<Token![-]>>()?.is_some();
        let scale = input.parse::<LitInt>()?;
        let power = scale.base10_parse::<i16>().map(|power| if minus { -power } else { power });
        match power.map(i8::try_from) {
            Ok(Ok(power)) if input.is_empty() => Ok((unit, power)),
            _ => Err(Error::new(
                scale.span(),
                "the scale is a power of ten from -128 to 127: -2 means hundredths",
            )),
        }
    })
}

/// The first paragraph of a documentation comment, on one line.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}
