use std::time::{Duration, Instant};

use asyndgan_protocol::{Message, RunDescription, Server, ServerAction, ServerEvent, ServerWork, SiteId};

use crate::{Error, Incoming, Ledger, ServerLink};

/// Plays the server's part of a run to its end; `progress` hears the number of rounds done.
///
/// # Errors
/// Whatever ends the run early; every site has been told then.
pub fn run_server<W: ServerWork>(
    run: &RunDescription,
    sites: u32,
    silence_max: Duration,
    link: &mut impl ServerLink,
    work: &mut W,
    mut progress: impl FnMut(u64),
) -> Result<Ledger, Error> {
    let mut server = Server::new(run.clone(), sites, &work.checkpoints(), silence_max);
    let mut ledger = Ledger::default();
    let started = now();
    loop {
        while let Some(action) = server.poll_action() {
            let done = match action {
                ServerAction::Send { site, message } => {
                    let frame = message.encode();
                    ledger.count(site, message.kind(), frame.len());
                    let sent = link.send(site, frame);
                    // A site that is gone is reported by its own event, with what the carrier knows.
                    if sent.is_err() { Ok(None) } else { continue }
                }
                ServerAction::Begin { conditions, weights, rounds_done } => {
                    progress(rounds_done);
                    work.begin(conditions, &weights, rounds_done).map(|()| Some(ServerEvent::Begun))
                }
                ServerAction::Synthesize { round, draws } => {
                    work.synthesize(round, &draws).map(|synthetic| Some(ServerEvent::Synthesized { synthetic }))
                }
                ServerAction::Update { round, feedback, losses } => work.update(round, &feedback, &losses).map(|()| {
                    progress(round + 1);
                    Some(ServerEvent::Updated)
                }),
                ServerAction::Checkpoint { rounds_done } => work.checkpoint(rounds_done).map(|()| None),
                ServerAction::Finished => return Ok(ledger),
            };
            let event = match done {
                Ok(event) => event,
                Err(error) => {
                    let reason = error.to_string();
                    tell_all(link, sites, &reason);
                    return Err(Error::Work(reason));
                }
            };
            if let Some(event) = event {
                handle(&mut server, started.elapsed(), event, link)?;
            }
        }
        let wait = server.poll_timeout().map(|deadline| deadline.saturating_sub(started.elapsed()));
        let event = match link.receive(wait) {
            Some((site, Incoming::Frame(frame))) => {
                let message = Message::decode(&frame).inspect_err(|error| tell_all(link, sites, &format!("{site}: {error}")))?;
                ledger.count(site, message.kind(), frame.len());
                ServerEvent::Message { site, message }
            }
            Some((site, Incoming::Lost(reason))) => ServerEvent::SiteLost { site, reason },
            None if wait.is_none() => return Err(Error::Disconnected { peer: "sites".into() }),
            None => ServerEvent::Tick,
        };
        handle(&mut server, started.elapsed(), event, link)?;
    }
}

fn tell_all(link: &mut impl ServerLink, sites: u32, reason: &str) {
    for site in (0..sites).map(SiteId) {
        // A site that is gone needs no telling.
        let _ = link.send(site, Message::Leave { reason: reason.into() }.encode());
    }
}

/// Hands an event to the machine; when that ends the run, still delivers its last words.
fn handle(server: &mut Server, now: Duration, event: ServerEvent, link: &mut impl ServerLink) -> Result<(), Error> {
    let Err(error) = server.handle_event(now, event) else { return Ok(()) };
    while let Some(action) = server.poll_action() {
        if let ServerAction::Send { site, message } = action {
            let _ = link.send(site, message.encode());
        }
    }
    Err(error.into())
}

#[allow(clippy::disallowed_methods, reason = "the transport owns the clock")]
fn now() -> Instant {
    Instant::now()
}
