//! The catalog, as Bedrock's `ListFoundationModels` shows it.

use super::error::Failure;
use super::refusals::AccessErrors;
use crate::app::App;
use crate::auth;
use crate::catalog::{Modality, Model, Serving, Status};
use crate::error::{Error, ErrorKind};
use crate::tenants::Permission;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Stands where AWS has a region: this is not one of theirs.
const REGION: &str = "local";

/// Filters; all that are given must fit.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Filters {
    /// Whole name of the provider, in any case.
    pub by_provider: Option<String>,
    /// `FINE_TUNING`, `CONTINUED_PRE_TRAINING` or `DISTILLATION`; no model here can be customised.
    pub by_customization_type: Option<String>,
    /// `TEXT`, `IMAGE` or `EMBEDDING`.
    pub by_output_modality: Option<String>,
    /// `ON_DEMAND` or `PROVISIONED`.
    pub by_inference_type: Option<String>,
}

/// The catalog.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({
    "modelSummaries": [{
        "modelArn": "arn:aws:bedrock:local::foundation-model/amazon.nova-lite-v1:0",
        "modelId": "amazon.nova-lite-v1:0", "modelName": "Nova Lite", "providerName": "Amazon",
        "inputModalities": ["TEXT", "IMAGE"], "outputModalities": ["TEXT"], "responseStreamingSupported": true,
        "customizationsSupported": [], "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": { "status": "ACTIVE" }, "standIn": "huggingface.smollm2-135m-instruct",
    }],
})))]
pub struct FoundationModels {
    /// In the catalog's order.
    pub model_summaries: Vec<ModelSummary>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSummary {
    /// With `local` as its region.
    pub model_arn: String,
    /// As callers name it.
    pub model_id: String,
    /// For people.
    pub model_name: String,
    /// Who made it.
    pub provider_name: String,
    /// What it takes.
    pub input_modalities: Vec<&'static str>,
    /// What it gives.
    pub output_modalities: Vec<&'static str>,
    /// Whether it streams.
    pub response_streaming_supported: bool,
    /// Always empty.
    pub customizations_supported: Vec<&'static str>,
    /// `ON_DEMAND` when something answers for it here, else empty.
    pub inference_types_supported: Vec<&'static str>,
    /// Its place in life.
    pub model_lifecycle: Lifecycle,
    /// Id of the model that stands in for it; a member that AWS doesn't have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<String>,
}

/// A place in life.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lifecycle {
    /// `ACTIVE` or `LEGACY`.
    pub status: &'static str,
}

/// Lists the whole catalog; entries that nothing serves here support no inference type.
#[utoipa::path(
    get, path = "/foundation-models", operation_id = "list_foundation_models", tag = "bedrock",
    params(Filters),
    responses(
        (status = 200, description = "The catalog", body = FoundationModels),
        AccessErrors,
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    filters: Result<Query<Filters>, QueryRejection>,
    request: Request,
) -> Result<Json<FoundationModels>, Failure> {
    auth::admit(&app, request, Permission::ReadModels).await?;
    let Query(filters) = filters.map_err(|_| Error::new(ErrorKind::Invalid, "The query can't be read."))?;
    let snapshot = app.catalog.load();
    Ok(Json(FoundationModels { model_summaries: select(snapshot.models(), &filters) }))
}

fn select(models: &[Arc<Model>], filters: &Filters) -> Vec<ModelSummary> {
    models.iter().map(|model| summary(model)).filter(|summary| filters.fit(summary)).collect()
}

impl Filters {
    fn fit(&self, model: &ModelSummary) -> bool {
        let any = |wanted: &Option<String>, offered: &[&str]| match wanted {
            Some(wanted) => offered.iter().any(|offered| offered.eq_ignore_ascii_case(wanted)),
            None => true,
        };
        any(&self.by_provider, &[&model.provider_name])
            && any(&self.by_customization_type, &model.customizations_supported)
            && any(&self.by_output_modality, &model.output_modalities)
            && any(&self.by_inference_type, &model.inference_types_supported)
    }
}

fn summary(model: &Model) -> ModelSummary {
    let (served, stand_in) = match &model.serving {
        Serving::Nobody => (false, None),
        Serving::Upstream { .. } => (true, None),
        Serving::StandIn { model, .. } => (true, Some(model.clone())),
    };
    let status = match model.status {
        Status::Active | Status::Preview => "ACTIVE",
        Status::Legacy => "LEGACY",
    };
    ModelSummary {
        model_arn: format!("arn:aws:bedrock:{REGION}::foundation-model/{}", model.id),
        model_id: model.id.clone(),
        model_name: model.name.clone(),
        provider_name: model.provider.clone(),
        input_modalities: model.input_modalities.iter().map(|modality| modality_name(*modality)).collect(),
        output_modalities: model.output_modalities.iter().map(|modality| modality_name(*modality)).collect(),
        response_streaming_supported: model.streaming,
        customizations_supported: vec![],
        inference_types_supported: if served { vec!["ON_DEMAND"] } else { vec![] },
        model_lifecycle: Lifecycle { status },
        stand_in,
    }
}

fn modality_name(modality: Modality) -> &'static str {
    match modality {
        Modality::Text => "TEXT",
        Modality::Image => "IMAGE",
        Modality::Video => "VIDEO",
        Modality::Audio => "AUDIO",
        Modality::Document => "DOCUMENT",
        Modality::Embedding => "EMBEDDING",
    }
}
