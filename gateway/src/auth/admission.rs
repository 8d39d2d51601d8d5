//! Admitted callers, and whether they still are: between the look at a credential and the work that it pays for a body is
//! read, which may take a minute.

use super::{Affected, Caller, Principal, Seen};
use crate::app::App;
use crate::audit::{Author, AuthorKind};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::{AdminTokenId, KeyId, RequestId, ServiceAccountId};
use crate::tenants::{AccessKeyId, Identity};
use std::net::IpAddr;

/// A tenant's caller, admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    pub(super) identity: Identity,
    pub(super) ticket: Ticket,
}

/// By what a caller was admitted, and when that was looked at.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub(super) credential: Credential,
    pub(super) seen: Seen,
}

/// A credential by its public id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    ApiKey(KeyId),
    /// As SDKs send it.
    AccessKey(String),
    AdminToken(AdminTokenId),
    /// A token of an issuer who is trusted with the platform: nothing but its own expiry and its key's end it.
    Platform,
    /// A token that acts as it.
    ServiceAccount(ServiceAccountId),
}

impl Admission {
    /// As if `principal` had just been admitted by an API key.
    #[cfg(test)]
    pub(crate) fn of(app: &App, principal: Principal) -> Admission {
        let ticket = Ticket { credential: Credential::ApiKey(principal.key.clone()), seen: app.credentials.seen() };
        Admission { identity: Identity::of(principal), ticket }
    }

    /// Who calls.
    pub fn principal(&self) -> &Principal {
        &self.identity.principal
    }

    /// Whether what changed or ended is something that this caller depends on.
    pub fn depends_on(&self, affected: &Affected) -> bool {
        affected.concerns(&self.identity)
    }

    /// See [`Ticket::check_again`].
    ///
    /// # Errors
    /// Those of [`Ticket::check_again`].
    pub async fn check_again(&self, app: &App) -> Result<()> {
        self.ticket.check_again(app).await
    }
}

impl Ticket {
    /// As the audit log names who calls.
    pub fn author(&self, caller: &Caller, address: Option<IpAddr>, request_id: Option<RequestId>) -> Author {
        let author = caller.author(address, request_id);
        match &self.credential {
            Credential::ServiceAccount(id) => Author { kind: AuthorKind::Jwt, id: id.to_string(), ..author },
            Credential::ApiKey(_) | Credential::AccessKey(_) | Credential::AdminToken(_) | Credential::Platform => {
                author
            }
        }
    }

    /// Refuses a caller whose credential has ended since it was looked at. Costs nothing while no change is known of and
    /// the feed of changes is followed; otherwise the credential is looked up again.
    ///
    /// # Errors
    /// `Unauthenticated(Revoked)`; `Overloaded` when it can't be known at the moment.
    pub async fn check_again(&self, app: &App) -> Result<()> {
        let credentials = &app.credentials;
        if credentials.still_holds(self.seen) {
            return Ok(());
        }
        let now = app.clock.now();
        let live = match &self.credential {
            Credential::ApiKey(id) => {
                let (known, _) = credentials.api_key(&app.store, id, now).await?;
                known.is_some_and(|known| known.identity.is_live(now))
            }
            Credential::AccessKey(id) => {
                let (known, _) = credentials.access_key(&app.store, AccessKeyId::parse(id)?, now).await?;
                known.is_some_and(|known| known.identity.is_live(now))
            }
            Credential::AdminToken(id) => {
                let (known, _) = credentials.admin_token(&app.store, id, now).await?;
                known.is_some_and(|known| known.is_live(now))
            }
            Credential::Platform => true,
            Credential::ServiceAccount(id) => {
                let (known, _) = credentials.service_account(&app.store, id, now).await?;
                known.is_some_and(|known| known.identity.is_live(now))
            }
        };
        if live { Ok(()) } else { Err(revoked()) }
    }
}

/// What a caller hears whose credential ended while it was in use.
pub fn revoked() -> Error {
    let text =
        "The credential is not accepted any more: it, its service account or its tenant was revoked or suspended.";
    Error::new(ErrorKind::Unauthenticated(AuthFailure::Revoked), text)
}
