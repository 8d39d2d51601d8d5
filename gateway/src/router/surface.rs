//! Which words a reply uses when no handler chose them: unknown paths, wrong methods, panics, bad heads.

use crate::admin::problem;
use crate::api::{bedrock, openai};
use crate::error::Error;
use crate::tenants::DialectFamily;
use axum::response::{IntoResponse, Response};

/// A family of paths that shares its words for failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// OpenAI's.
    Openai,
    /// Bedrock's.
    Bedrock,
    /// Operators'.
    Admin,
}

/// How Bedrock's paths begin, those that are not served yet included.
const BEDROCK: [&str; 6] =
    ["/model/", "/foundation-models", "/inference-profiles", "/guardrail", "/async-invoke", "/model-invocation-job"];

impl Surface {
    /// Of a path on the data port.
    pub fn of_data_path(path: &str) -> Surface {
        if BEDROCK.iter().any(|start| path.starts_with(start)) { Surface::Bedrock } else { Surface::Openai }
    }

    /// Of a path on the data port that also answers tenants' administrators.
    pub fn of_data_path_with_admin(path: &str) -> Surface {
        if path.starts_with("/admin/") { Surface::Admin } else { Surface::of_data_path(path) }
    }

    /// As scopes name it; the admin API has no dialect.
    pub fn family(self) -> Option<DialectFamily> {
        match self {
            Surface::Openai => Some(DialectFamily::Openai),
            Surface::Bedrock => Some(DialectFamily::Bedrock),
            Surface::Admin => None,
        }
    }

    /// As metrics and logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Surface::Openai => "openai",
            Surface::Bedrock => "bedrock",
            Surface::Admin => "admin",
        }
    }

    /// A failure in this surface's words.
    pub fn failure(self, error: Error) -> Response {
        match self {
            Surface::Openai => openai::error::Failure(error).into_response(),
            Surface::Bedrock => bedrock::error::Failure(error).into_response(),
            Surface::Admin => problem::Failure(error).into_response(),
        }
    }
}
