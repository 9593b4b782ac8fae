use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    time::{SystemTime, UNIX_EPOCH},
};

use asyndgan_protocol::{Message, RunDescription, SiteId};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{
    absence::reason_for,
    chunks::Assembly,
    clock::now,
    ended::EndedRuns,
    listener::Peer,
    outbox::{Outbox, outbox},
    slots::SiteSlots,
    wire::{Chunk, ListEndedRunsReply, ListEndedRunsRequest, PreflightReply, PreflightRequest, carrier_server::Carrier},
};
use crate::{Frame, keys::Tls};

/// What the service passes on from a site.
pub(super) struct Arrival {
    pub(super) site: SiteId,
    pub(super) session: u64,
    pub(super) kind: ArrivalKind,
}

pub(super) enum ArrivalKind {
    Connected(Outbox<Result<Chunk, Status>>, Arc<Vec<u8>>),
    Frame(Frame, OwnedSemaphorePermit),
    Lost(String),
}

/// Answers the requests of sites.
pub(super) struct Service {
    pub(super) names: Vec<String>,
    pub(super) run: Result<RunDescription, String>,
    pub(super) ended: EndedRuns,
    pub(super) slots: Arc<SiteSlots>,
    pub(super) tls: Arc<Mutex<Tls>>,
    pub(super) inbox: blocking::Sender<Arrival>,
}

impl Service {
    /// The other end, if its certificate is valid.
    fn peer<'a, T>(&self, request: &'a Request<T>) -> Result<&'a Peer, Status> {
        let peer = request.extensions().get::<Peer>().ok_or_else(|| Status::unauthenticated("no certificate"))?;
        if !peer.place.allows_request(now()) {
            return Err(Status::resource_exhausted("too many requests with this certificate; try again in a minute"));
        }
        // The connection may be older than what is known of its certificate by now.
        let revoked = {
            // Read again every two seconds.
            let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            if tls.unreadable().is_some() {
                return Err(Status::unavailable(
                    "the server cannot read its list of revoked certificates, so no site may join; contact the server operator",
                ));
            }
            tls.is_revoked(&peer.facts.serial)
        };
        if revoked {
            return Err(Status::unauthenticated("the site's certificate was revoked"));
        }
        if peer.facts.not_after < (unix_ms() / 1000) as i64 {
            return Err(Status::unauthenticated("the site's certificate has expired"));
        }
        Ok(peer)
    }

    /// The site at the other end, and the run that it is a participant of.
    fn site<T>(&self, request: &Request<T>) -> Result<(SiteId, Peer, &RunDescription), Status> {
        let peer = self.peer(request)?;
        let run = self.run.as_ref().map_err(|reason| Status::failed_precondition(reason.clone()))?;
        let name = &peer.facts.name;
        let slot = self.names.iter().position(|n| n == name);
        let slot =
            slot.ok_or_else(|| Status::permission_denied(format!("{name} is not a participant of this run; contact the server operator")))?;
        Ok((SiteId(slot as u32), peer.clone(), run))
    }
}

#[tonic::async_trait]
impl Carrier for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

    async fn join(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Self::JoinStream>, Status> {
        let (site, peer, _) = self.site(&request)?;
        let instance = request.metadata().get("asyndgan-instance").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (session, closed, waiting) = self.slots.enter(site, &instance, &peer.facts.serial)?;
        let (outbox, outgoing) = outbox();
        // The receiver goes with the link; then nobody listens any more.
        let _ = self.inbox.send(Arrival { site, session, kind: ArrivalKind::Connected(outbox, Arc::clone(&peer.certificate)) });
        peer.place.set_joined(true);
        let (inbox, slots) = (self.inbox.clone(), Arc::clone(&self.slots));
        tokio::spawn(async move {
            let reason = tokio::select! {
                reason = receive(request.into_inner(), site, session, waiting, &inbox) => reason,
                reason = closed => reason.unwrap_or("the server is shutting down").into(),
            };
            slots.leave(site, session);
            peer.place.set_joined(false);
            let _ = inbox.send(Arrival { site, session, kind: ArrivalKind::Lost(reason) });
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn preflight(&self, request: Request<PreflightRequest>) -> Result<Response<PreflightReply>, Status> {
        let (site, _, run) = self.site(&request)?;
        if let Some(reason) = request.get_ref().absence.as_ref().and_then(|report| reason_for(run, report)) {
            self.slots.set_absence(site, reason);
        }
        let probe = Bytes::from(vec![0; request.get_ref().probe.len()]);
        // A message has no space for a whole probe and a description.
        let describe =
            if probe.is_empty() { Message::Describe { site, run: run.clone(), conditions_wanted: true }.encode() } else { Bytes::new() };
        Ok(Response::new(PreflightReply { unix_ms: unix_ms(), describe, probe }))
    }

    async fn list_ended_runs(&self, request: Request<ListEndedRunsRequest>) -> Result<Response<ListEndedRunsReply>, Status> {
        self.peer(&request)?;
        Ok(Response::new(self.ended.among(&request.get_ref().runs)?))
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

/// Receives a connection's frames until it ends, and returns the reason for its end.
async fn receive(
    mut stream: Streaming<Chunk>,
    site: SiteId,
    session: u64,
    waiting: Arc<Semaphore>,
    inbox: &blocking::Sender<Arrival>,
) -> String {
    let mut assembly = Assembly::default();
    loop {
        let chunk = match stream.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(status)) => {
                return format!("the connection was lost ({}); if it does not come back, check that its program runs", status.message());
            }
            None => return "it closed the connection".into(),
        };
        match assembly.take(chunk) {
            Ok(Some(frame)) => {
                let Ok(permit) = Arc::clone(&waiting).acquire_owned().await else { return "the server is shutting down".into() };
                let _ = inbox.send(Arrival { site, session, kind: ArrivalKind::Frame(frame, permit) });
            }
            Ok(None) => {}
            Err(fact) => return fact,
        }
    }
}
