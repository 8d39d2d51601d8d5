//! The models a caller can name, as OpenAI lists them.

use super::error::Failure;
use super::refusals::AccessErrors;
use crate::app::App;
use crate::auth;
use crate::catalog::{Offer, Serving, Status};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind};
use crate::tenants::Permission;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Models that answer here and that the caller has access to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "object": "list",
    "data": [{
        "id": "huggingface.smollm2-135m-instruct", "object": "model", "created": 0, "owned_by": "Hugging Face",
        "name": "SmolLM2 135M", "status": "active", "context_tokens": 8192, "served": true, "stand_in": null,
    }],
})))]
pub struct ModelList {
    /// `list`
    pub object: &'static str,
    /// In the catalog's order, aliases last.
    pub data: Vec<ModelView>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "amazon.nova-lite-v1:0", "object": "model", "created": 0, "owned_by": "Amazon", "name": "Nova Lite",
    "status": "active", "context_tokens": 8192, "served": true, "stand_in": "huggingface.smollm2-135m-instruct",
})))]
pub struct ModelView {
    /// As callers name it.
    pub id: String,
    /// `model`
    pub object: &'static str,
    /// Always 0: no source states it.
    pub created: i64,
    /// Who made it.
    pub owned_by: String,
    /// For people.
    pub name: String,
    /// `active`, `preview` or `legacy`.
    #[schema(value_type = String)]
    pub status: Status,
    /// Most tokens of prompt and answer.
    pub context_tokens: Option<u32>,
    /// Whether anything answers for it here.
    pub served: bool,
    /// Id of the model that stands in for it; a development convenience.
    pub stand_in: Option<String>,
    /// Id of the model that this is another name of; all else is that model's.
    pub alias_of: Option<String>,
}

/// Lists the models that answer here and that the credential has access to, aliases included. Entries of the catalog
/// that nothing serves are left out, but can be read by id.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "openai",
    responses(
        (status = 200, description = "The list", body = ModelList),
        AccessErrors,
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Json<ModelList>, Failure> {
    let (admission, _) = auth::admit(&app, request, Permission::ReadModels).await?;
    let (snapshot, now) = (app.catalog.load(), app.clock.now());
    let data = snapshot.offers(&admission.principal().access, now).map(|offer| view(offer, now)).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One model or alias of the catalog, whether or not anything serves it here.
#[utoipa::path(
    get, path = "/v1/models/{model}", operation_id = "get_model", tag = "openai",
    params(("model" = String, Path, description = "As `/v1/models` names it", example = "huggingface.smollm2-135m-instruct")),
    responses(
        (status = 200, description = "The model", body = ModelView),
        AccessErrors,
        (status = 404, description = "Not in the catalog, or not accessible with this credential", body = super::wire::ErrorBody),
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<ModelView>, Failure> {
    let (admission, _) = auth::admit(&app, request, Permission::ReadModels).await?;
    let unknown = || Error::new(ErrorKind::ModelNotFound, "There is no model of this id.");
    let Path(id) = path.map_err(|_| unknown())?;
    let snapshot = app.catalog.load();
    let offer = snapshot.offer(&admission.principal().access, &id).ok_or_else(unknown)?;
    Ok(Json(view(offer, app.clock.now())))
}

fn view(offer: Offer<'_>, now: Micros) -> ModelView {
    let model = offer.model;
    let stand_in = match &model.serving {
        Serving::Nobody | Serving::Upstream { .. } => None,
        Serving::StandIn { model, .. } => Some(model.clone()),
    };
    ModelView {
        id: offer.id.to_owned(),
        object: "model",
        created: 0,
        owned_by: model.provider.clone(),
        name: model.name.clone(),
        status: model.status,
        context_tokens: model.context_tokens,
        served: model.is_served(now),
        stand_in,
        alias_of: offer.alias_of().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Access, Alias, ModelAccess, Override, OverrideBody, Snapshot};
    use crate::config::{Cluster, Config};

    const MODEL: &str = "huggingface.smollm2-135m-instruct";

    fn snapshot() -> Snapshot {
        let mut config = Config::load(None).unwrap();
        config.cluster = vec![Cluster {
            name: "c".into(),
            model: MODEL.into(),
            stands_in_for: vec!["amazon.nova-lite-v1:0".into()],
            decode: vec![],
            prefill: vec![],
            min_remote_prefill_tokens: 0,
        }];
        let alias = |id: &str, target: &str| {
            let body = OverrideBody::Alias(Alias { target: target.into() });
            Override { id: id.into(), body }.stored().unwrap()
        };
        let rows = [alias("fast", MODEL), alias("smart", "amazon.nova-lite-v1:0")];
        Snapshot::build(&config, &rows).unwrap()
    }

    #[test]
    fn an_alias_is_listed_as_its_model_under_another_name() {
        let snapshot = snapshot();
        let views: Vec<ModelView> = snapshot.offers(&Access::default(), 0).map(|offer| view(offer, 0)).collect();
        let said = |view: &ModelView| (view.id.clone(), view.alias_of.clone(), view.stand_in.clone(), view.served);
        let (nova, model) = ("amazon.nova-lite-v1:0".to_owned(), MODEL.to_owned());
        assert_eq!(
            views.iter().map(said).collect::<Vec<_>>(),
            [
                (model.clone(), None, None, true),
                (nova.clone(), None, Some(model.clone()), true),
                ("fast".into(), Some(model.clone()), None, true),
                ("smart".into(), Some(nova), Some(model), true),
            ]
        );
        assert_eq!((views[3].owned_by.as_str(), views[3].name.as_str()), ("Amazon", "Nova Lite"));
    }

    #[test]
    fn what_the_caller_has_no_access_to_is_neither_listed_nor_there() {
        let snapshot = snapshot();
        let nova = ModelAccess::only(vec!["amazon.*".parse().unwrap()]).unwrap();
        let access = Access { project: nova, ..Access::default() };
        let ids: Vec<&str> = snapshot.offers(&access, 0).map(|offer| offer.id).collect();
        assert_eq!(ids, ["amazon.nova-lite-v1:0", "smart"]);
        for id in [MODEL, "fast", "no.such"] {
            assert!(snapshot.offer(&access, id).is_none(), "{id}");
        }
        let unserved = snapshot.offer(&access, "amazon.nova-pro-v1:0").unwrap();
        assert!(!view(unserved, 0).served);
    }
}
