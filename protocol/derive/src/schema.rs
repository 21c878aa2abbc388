//! `Schema`: the structure of a struct or an enum, as postcard writes it.
//!
//! Purpose: postcard's own derive takes any type and any attribute of serde's, and its paths need a
//! second dependency. This one refuses what would make structure and bytes differ, and its paths
//! lead through `tidegate_protocol`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, FieldsNamed, Result, Variant, ext::IdentExt};

use crate::refuse;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    refuse::parameters(input)?;
    refuse::serde(&input.attrs)?;
    let ty = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => {
                let values = values(fields)?;
                quote!(DataModelType::Struct(&[#values]))
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                let inner = schemas(&data.fields)?;
                quote!(DataModelType::NewtypeStruct(#inner))
            }
            Fields::Unnamed(_) => {
                let items = schemas(&data.fields)?;
                quote!(DataModelType::TupleStruct(&[#items]))
            }
            Fields::Unit => quote!(DataModelType::UnitStruct),
        },
        Data::Enum(data) => {
            let variants = data.variants.iter().map(variant).collect::<Result<Vec<_>>>()?;
            quote!(DataModelType::Enum(&[#(#variants),*]))
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(&input.ident, "a union has no place in an event: use an enum"));
        }
    };
    let ident = &input.ident;
    let name = ident.unraw().to_string();
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        const _: () = {
            use ::tidegate_protocol::postcard_schema::schema::{DataModelType, DataModelVariant, NamedType, NamedValue, NamedVariant};
            #[automatically_derived]
            impl #parameters ::tidegate_protocol::postcard_schema::Schema for #ident #arguments #bounds {
                const SCHEMA: &'static NamedType = &NamedType { name: #name, ty: &#ty };
            }
        };
    })
}

fn variant(variant: &Variant) -> Result<TokenStream> {
    refuse::serde(&variant.attrs)?;
    if let Some((_, number)) = &variant.discriminant {
        let why = "postcard writes a variant's place, not its number: remove the number, and only ever add variants in a new version";
        return Err(Error::new_spanned(number, why));
    }
    let name = variant.ident.unraw().to_string();
    let ty = match &variant.fields {
        Fields::Named(fields) => {
            let values = values(fields)?;
            quote!(DataModelVariant::StructVariant(&[#values]))
        }
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let inner = schemas(&variant.fields)?;
            quote!(DataModelVariant::NewtypeVariant(#inner))
        }
        Fields::Unnamed(_) => {
            let items = schemas(&variant.fields)?;
            quote!(DataModelVariant::TupleVariant(&[#items]))
        }
        Fields::Unit => quote!(DataModelVariant::UnitVariant),
    };
    Ok(quote!(&NamedVariant { name: #name, ty: &#ty }))
}

fn values(fields: &FieldsNamed) -> Result<TokenStream> {
    let values = fields.named.iter().map(|field| {
        refuse::field(field)?;
        let name = field.ident.as_ref().map(|ident| ident.unraw().to_string());
        let ty = &field.ty;
        Ok(quote!(&NamedValue {
            name: #name,
            ty: <#ty as ::tidegate_protocol::postcard_schema::Schema>::SCHEMA
        }))
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(quote!(#(#values),*))
}

fn schemas(fields: &Fields) -> Result<TokenStream> {
    let schemas = fields.iter().map(|field| {
        refuse::field(field)?;
        let ty = &field.ty;
        Ok(quote!(<#ty as ::tidegate_protocol::postcard_schema::Schema>::SCHEMA))
    });
    let schemas = schemas.collect::<Result<Vec<_>>>()?;
    Ok(quote!(#(#schemas),*))
}
