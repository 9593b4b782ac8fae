//! A site that asks for the run without joining it.

use std::{thread, time::Duration};

use asyndgan_protocol::{Message, RunDescription};
use bytes::Bytes;
use tonic::{Request, server::NamedService as _, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    absence::Absence,
    chunks::CHUNK_BYTES_MAX,
    clock::now,
    ended::{RUNS_MAX, RunEnd, end_in},
    site::{ATTEMPT_MAX, Dialler, Failure, GrpcSite, limited, runtime},
    wire::{ListEndedRunsRequest, PreflightReply, PreflightRequest, carrier_client::CarrierClient, carrier_server::CarrierServer},
};
use crate::Error;

/// How long a preflight may take, which measures the throughput.
const PREFLIGHT_MAX: Duration = Duration::from_mins(1);

/// The server's answer to a site that asks for the run without joining it.
#[derive(Debug)]
pub struct Preflight {
    /// The server's clock, in milliseconds since the Unix epoch, about half of `round_trip` after the request.
    pub unix_ms: u64,
    /// The message that the site would receive on joining.
    pub describe: Message,
    /// The time from a request to its answer.
    pub round_trip: Duration,
    /// Throughput in bytes per second, over both directions.
    pub bytes_per_second: f64,
}

impl GrpcSite {
    /// Connects once, checks the standard gRPC health service, asks for the message that a joining site receives, and
    /// measures the throughput.
    ///
    /// # Errors
    /// The reason why the server cannot be reached or rejects the request.
    pub fn preflight(self) -> Result<Preflight, Error> {
        self.asking(PREFLIGHT_MAX, async |dialler| dialler.preflight().await)
    }

    /// Connects once, and asks for the message that a joining site receives.
    ///
    /// # Errors
    /// As [`GrpcSite::preflight`].
    pub fn describe(self) -> Result<Message, Error> {
        self.asking(ATTEMPT_MAX, async |dialler| {
            let mut client = limited(dialler.channel().await.map_err(Failure::error)?);
            Ok(Message::decode(&dialler.ask(&mut client, 0).await?.describe)?)
        })
    }

    /// Connects once, and asks how runs have ended that the site has begun; `None` for a run that has not ended, or
    /// that the server does not know.
    ///
    /// # Errors
    /// As [`GrpcSite::preflight`].
    pub fn ended_runs(self, runs: Vec<RunDescription>) -> Result<Vec<Option<RunEnd>>, Error> {
        self.asking(ATTEMPT_MAX, async move |dialler| {
            let mut client = limited(dialler.channel().await.map_err(Failure::error)?);
            let mut ends = Vec::new();
            for some in runs.chunks(RUNS_MAX) {
                let hashes = some.iter().map(|run| run.sha256().to_vec().into()).collect();
                let reply = client.list_ended_runs(Request::new(ListEndedRunsRequest { runs: hashes })).await;
                let reply = reply.map_err(|status| dialler.failure(&status).error())?.into_inner();
                ends.extend(some.iter().map(|run| end_in(&reply, run)));
            }
            Ok(ends)
        })
    }

    /// Asks on a thread of its own, because a runtime cannot start within another one: the caller may be async code.
    fn asking<T: Send + 'static>(
        self,
        limit: Duration,
        ask: impl AsyncFnOnce(&Dialler) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let started = thread::Builder::new().name("preflight".into()).spawn(move || {
            let dialler = Dialler::new(self)?;
            runtime()?.block_on(async {
                let silent = || Error::Transient { fact: format!("{}: no answer within {} s", dialler.site.server, limit.as_secs()) };
                tokio::time::timeout(limit, ask(&dialler)).await.unwrap_or_else(|_| Err(silent()))
            })
        });
        let thread = started.map_err(|source| Error::Thread { source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Dialler {
    async fn ask(&self, client: &mut CarrierClient<Channel>, probe: usize) -> Result<PreflightReply, Error> {
        let request = Request::new(PreflightRequest {
            probe: Bytes::from(vec![0; probe]),
            absence: self.site.absence.as_ref().map(Absence::to_wire),
        });
        Ok(client.preflight(request).await.map_err(|status| self.failure(&status).error())?.into_inner())
    }

    async fn preflight(&self) -> Result<Preflight, Error> {
        let channel = self.channel().await.map_err(Failure::error)?;
        let service = CarrierServer::<()>::NAME.to_owned();
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest { service }).await;
        let health = health.map_err(|status| self.failure(&status).error())?.into_inner();
        if health.status() != ServingStatus::Serving {
            return Err(Error::Rejected { server: self.site.server.clone(), fact: "it is running, but not serving".into() });
        }
        let mut client = limited(channel);
        let asked = now();
        let reply = self.ask(&mut client, 0).await?;
        let round_trip = asked.elapsed();
        let asked = now();
        self.ask(&mut client, CHUNK_BYTES_MAX).await?;
        let bytes_per_second = 2.0 * CHUNK_BYTES_MAX as f64 / asked.elapsed().as_secs_f64();
        Ok(Preflight { unix_ms: reply.unix_ms, describe: Message::decode(&reply.describe)?, round_trip, bytes_per_second })
    }
}
