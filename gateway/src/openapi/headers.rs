//! What every reply carries, written into every documented reply, so that no handler has to.

use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Header, HeaderBuilder, ObjectBuilder, OpenApi as Document, RefOr, Type};

/// `x-request-id` everywhere; on Bedrock's paths also `x-amzn-RequestId` and, on failures, `x-amzn-ErrorType`.
pub(super) struct ReplyHeaders;

impl Modify for ReplyHeaders {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            methods.into_iter().flatten().for_each(name_headers);
        }
    }
}

fn name_headers(operation: &mut Operation) {
    let bedrock = operation.tags.iter().flatten().any(|tag| tag == "bedrock");
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.headers.insert("x-request-id".into(), header("The request's id, `req_…`"));
        if bedrock {
            response.headers.insert("x-amzn-requestid".into(), header("The request's id as a UUID"));
        }
        if bedrock && !status.starts_with('2') {
            response.headers.insert("x-amzn-errortype".into(), header("The exception's name"));
        }
    }
}

fn header(description: &str) -> RefOr<Header> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    RefOr::T(HeaderBuilder::new().schema(Some(text)).description(Some(description)).build())
}
