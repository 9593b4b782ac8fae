//! The queue of runs on a server's page: what it holds, and the operator's requests.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::Page;
use crate::consortium::runs::{RunAction, RunProgress, Runs};

/// Requests of the page carry this header, which no form and no page of another origin can send.
const HEADER: &str = "asyndgan-request";

/// A run that has not ended.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ShownRun {
    name: String,
    state: &'static str,
    reason: String,
    rounds: Option<[u64; 2]>,
    actions: Vec<RunAction>,
}

/// The runs that have not ended, in the order of submission; none if they cannot be read now.
pub(super) fn shown(runs: &Runs) -> Vec<ShownRun> {
    let all = runs.list().unwrap_or_default();
    let shown = all.into_iter().filter_map(|run| {
        let last = run.last();
        let rounds = RunProgress::read(&run.folder).map(|progress| [progress.rounds_done, progress.rounds]);
        let has_result = rounds.is_some_and(|[done, _]| done > 0);
        let is_possible = |action: &RunAction| action.from().contains(&last.state) && (has_result || *action != RunAction::Finish);
        let actions: Vec<RunAction> = RunAction::ALL.into_iter().filter(is_possible).collect();
        let (state, reason) = (last.state.name(), last.reason.lines().next().unwrap_or_default().to_owned());
        (!actions.is_empty()).then_some(ShownRun { name: run.name, state, reason, rounds, actions })
    });
    shown.collect()
}

/// A request of the operator.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    run: String,
    action: RunAction,
    reason: String,
}

/// Carries out a request; the answer is the reason if it is not possible.
pub(super) async fn act(State(page): State<Page>, headers: HeaderMap, Json(request): Json<Request>) -> Response {
    let Some(runs) = page.runs.filter(|_| headers.contains_key(HEADER)) else { return StatusCode::NOT_FOUND.into_response() };
    let Request { run, action, reason } = request;
    let reason = if reason.trim().is_empty() { "on the dashboard".to_owned() } else { format!("{} (on the dashboard)", reason.trim()) };
    // The queue is locked while it changes.
    match tokio::task::spawn_blocking(move || runs.act(&run, action, &reason)).await {
        Ok(Ok(_)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, format!("{error:#}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
