//! Integers in their true range. utoipa writes the formats of unsigned integers in a spelling that nobody knows, and
//! without their upper bound; and without the formats it calls a `u32` an `int32`, of which half the range is missing.

use utoipa::Modify;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, KnownFormat, Object, SchemaFormat};
use utoipa::openapi::{OpenApi as Document, PathItem, RefOr, Schema};

/// Corrects every schema of the components, parameters and reply headers.
pub(super) struct Integers;

impl Modify for Integers {
    fn modify(&self, document: &mut Document) {
        document.components.iter_mut().flat_map(|all| all.schemas.values_mut()).for_each(correct);
        document.paths.paths.values_mut().for_each(correct_path);
    }
}

fn correct_path(item: &mut PathItem) {
    let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    for operation in methods.into_iter().flatten() {
        for parameter in operation.parameters.iter_mut().flatten() {
            let RefOr::T(parameter) = parameter else { continue };
            parameter.schema.iter_mut().for_each(correct);
        }
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            for header in response.headers.values_mut() {
                let RefOr::T(header) = header else { continue };
                header.schema.iter_mut().for_each(correct);
            }
        }
    }
}

fn correct(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            object.properties.values_mut().for_each(correct);
            if let Some(AdditionalProperties::RefOr(values)) = object.additional_properties.as_deref_mut() {
                correct(values);
            }
            correct_integer(object);
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                correct(items);
            }
        }
        Schema::OneOf(ways) => ways.items.iter_mut().for_each(correct),
        Schema::AnyOf(ways) => ways.items.iter_mut().for_each(correct),
        Schema::AllOf(parts) => parts.items.iter_mut().for_each(correct),
        _ => {}
    }
}

fn correct_integer(object: &mut Object) {
    let Some(SchemaFormat::KnownFormat(format)) = &object.format else { return };
    let (name, most) = match format {
        KnownFormat::UInt8 => ("uint8", Some(usize::from(u8::MAX))),
        KnownFormat::UInt16 => ("uint16", Some(usize::from(u16::MAX))),
        KnownFormat::UInt32 => ("uint32", Some(u32::MAX as usize)),
        // As a bound it would be beyond what most readers of JSON can count to.
        KnownFormat::UInt64 => ("uint64", None),
        _ => return,
    };
    object.format = Some(SchemaFormat::Custom(name.into()));
    object.minimum.get_or_insert(0_usize.into());
    object.maximum = object.maximum.take().or(most.map(Into::into));
}
