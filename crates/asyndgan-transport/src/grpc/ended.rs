use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use asyndgan_protocol::RunDescription;
use bytes::Bytes;
use tonic::Status;

use super::wire::ListEndedRunsReply;

/// Maximum number of runs in one request.
pub(super) const RUNS_MAX: usize = 1_000;

/// How a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// With a result.
    Finished,
    /// By the operator, without a result.
    Aborted,
}

/// The runs of a server that have ended. Clones share the list, so it can change while the server runs.
#[derive(Debug, Clone, Default)]
pub struct EndedRuns {
    by_hash: Arc<Mutex<BTreeMap<[u8; 32], RunEnd>>>,
}

impl EndedRuns {
    /// Replaces the list. A run is identified by [`RunDescription::sha256`].
    pub fn set(&self, ended: impl IntoIterator<Item = ([u8; 32], RunEnd)>) {
        *self.by_hash.lock().unwrap_or_else(PoisonError::into_inner) = ended.into_iter().collect();
    }

    /// Which of these runs have ended.
    pub(super) fn among(&self, runs: &[Bytes]) -> Result<ListEndedRunsReply, Status> {
        if runs.len() > RUNS_MAX {
            return Err(Status::invalid_argument(format!("more than {RUNS_MAX} runs in one request")));
        }
        let by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reply = ListEndedRunsReply::default();
        for run in runs {
            let end = <[u8; 32]>::try_from(run.as_ref()).ok().and_then(|hash| by_hash.get(&hash));
            match end {
                Some(RunEnd::Finished) => reply.finished.push(run.clone()),
                Some(RunEnd::Aborted) => reply.aborted.push(run.clone()),
                None => {}
            }
        }
        Ok(reply)
    }
}

/// How a run has ended, by the reply of a server.
pub(super) fn end_in(reply: &ListEndedRunsReply, run: &RunDescription) -> Option<RunEnd> {
    let hash = run.sha256();
    let has = |runs: &[Bytes]| runs.iter().any(|run| run == hash.as_slice());
    if has(&reply.finished) { Some(RunEnd::Finished) } else { has(&reply.aborted).then_some(RunEnd::Aborted) }
}
