use asyndgan_protocol::{Message, Site, SiteAction, SiteEvent, SiteId, SitePolicy, SiteWork};

use crate::{Error, SiteLink};

/// Plays a site's part of a run to its end.
///
/// # Errors
/// Whatever ends the site's part early; the server has been told then.
pub fn run_site<W: SiteWork>(id: SiteId, policy: SitePolicy, link: &mut impl SiteLink, work: &mut W) -> Result<(), Error> {
    let mut site = Site::new(id, policy);
    let mut event = SiteEvent::Ready { summary: work.summary(), conditions: work.conditions() };
    let mut refusal = None;
    loop {
        if let Err(error) = site.handle_event(event) {
            refusal.get_or_insert(Error::Protocol(error));
        }
        let mut next = None;
        while let Some(action) = site.poll_action() {
            let done = match action {
                SiteAction::Send(message) => {
                    link.send(message.encode())?;
                    continue;
                }
                SiteAction::Begin { run, rounds_done } => work.begin(id, &run, rounds_done).map(|()| Some(SiteEvent::Begun)),
                SiteAction::Step { round, cases, augmentations, synthetic } => work
                    .step(round, &cases, &augmentations, &synthetic)
                    .map(|(feedback, losses)| Some(SiteEvent::Stepped { round, feedback, losses })),
                SiteAction::Checkpoint { rounds_done } => work.checkpoint(rounds_done).map(|()| None),
                SiteAction::Finished => return Ok(()),
                SiteAction::Ended { reason } => return Err(refusal.unwrap_or(Error::Ended { reason })),
            };
            match done {
                Ok(Some(done)) => next = Some(done),
                Ok(None) => {}
                Err(error) => {
                    // What was to follow counted on this: the machine drops it.
                    next = Some(SiteEvent::Failed { reason: error.to_string() });
                    break;
                }
            }
        }
        event = match next {
            Some(event) => event,
            None => match link.receive().and_then(|frame| Ok(Message::decode(&frame)?)) {
                Ok(message) => SiteEvent::Message(message),
                Err(Error::Protocol(error)) => SiteEvent::Failed { reason: error.to_string() },
                Err(gone) => return Err(gone),
            },
        };
    }
}
