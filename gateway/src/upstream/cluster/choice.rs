//! Which worker decodes a request, and who computes its prompt.

use super::Cluster;
use super::failure::{Cause, Failure};
use super::worker::{Lease, Worker};
use cluster_protocol::{LocalReason, PrefillPlan};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The workers chosen for a request. Counts against their load until dropped.
#[derive(Debug)]
pub struct Placement {
    pub(super) decode: Lease,
    pub(super) prefill: Option<Lease>,
    pub(super) plan: PrefillPlan,
}

impl Placement {
    /// Id of the worker that shall decode.
    pub fn decode_id(&self) -> &str {
        &self.decode.worker().id
    }

    /// Who shall compute the prompt.
    pub fn plan(&self) -> &PrefillPlan {
        &self.plan
    }
}

impl Cluster {
    /// Chooses workers for a prompt of so many tokens, the least loaded first. Waits shortly when no decode worker is
    /// healthy, so that a restart is not an error. Cancelling has no effect but that.
    ///
    /// # Errors
    /// [`Failure`] when none becomes healthy.
    pub async fn place(&self, prompt_tokens: usize) -> Result<Placement, Failure> {
        self.place_except(prompt_tokens, &[], false).await
    }

    /// Prefers workers not `tried`; `only_others` never takes one of them.
    pub(super) async fn place_except(
        &self,
        prompt_tokens: usize,
        tried: &[String],
        only_others: bool,
    ) -> Result<Placement, Failure> {
        let mut changes = self.healthy.subscribe();
        let deadline = Instant::now() + self.deadlines().healthy;
        loop {
            let is_untried = |worker: &Worker| !tried.contains(&worker.id);
            let untried = least_loaded(&self.decode, is_untried);
            let decode = if only_others { untried } else { untried.or_else(|| least_loaded(&self.decode, |_| true)) };
            if let Some(worker) = decode {
                return Ok(self.placement(worker, prompt_tokens));
            }
            if only_others || timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(Failure::before_start(Cause::NoneHealthy));
            }
        }
    }

    fn placement(&self, decode: &Arc<Worker>, prompt_tokens: usize) -> Placement {
        let decode = Lease::new(decode);
        let local = |reason| (None, PrefillPlan::Local { reason });
        let (prefill, plan) = if self.prefill.is_empty() {
            local(LocalReason::NoneConfigured)
        } else if prompt_tokens < self.min_remote_prefill_tokens as usize {
            local(LocalReason::ShortPrompt)
        } else {
            match least_loaded(&self.prefill, |_| true) {
                None => local(LocalReason::NoneHealthy),
                Some(worker) => (Some(Lease::new(worker)), PrefillPlan::Remote { prefill_id: worker.id.clone() }),
            }
        };
        Placement { decode, prefill, plan }
    }
}

fn least_loaded(workers: &[Arc<Worker>], may: impl Fn(&Worker) -> bool) -> Option<&Arc<Worker>> {
    let healthy = workers.iter().filter(|worker| may(worker)).filter_map(|worker| Some((worker.load()?, worker)));
    healthy.min_by_key(|(load, _)| *load).map(|(_, worker)| worker)
}
