//! Which process takes part for each site.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use asyndgan_protocol::SiteId;
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;

use super::{absence::AbsenceReason, clock::now, listener::Notice};
use crate::{error::with_causes, keys::Tls};

/// Complete frames of one site that may wait for the server. Further frames are held back by flow control.
const FRAMES_WAITING: usize = 2;
/// A site that does not join a run repeats the reason with every request, much more often than this.
const ABSENCE_VALID_FOR: Duration = Duration::from_mins(1);

/// Who is connected for each site: at most one process.
#[derive(Debug)]
pub(super) struct SiteSlots {
    sites: Vec<Mutex<SiteSlot>>,
}

#[derive(Debug)]
struct SiteSlot {
    sessions: u64,
    /// Whole frames that wait for the server, over all connections of the site.
    waiting: Arc<Semaphore>,
    present: Option<Present>,
    /// Why the site does not join, and when it reported that.
    absence: Option<(AbsenceReason, Instant)>,
}

impl Default for SiteSlot {
    fn default() -> Self {
        Self { sessions: 0, waiting: Arc::new(Semaphore::new(FRAMES_WAITING)), present: None, absence: None }
    }
}

#[derive(Debug)]
struct Present {
    session: u64,
    instance: String,
    serial: String,
    /// Closes the connection, with the reason.
    close: Option<oneshot::Sender<&'static str>>,
}

impl Present {
    fn close(&mut self, reason: &'static str) {
        // Its connection may have ended by itself.
        let _ = self.close.take().map(|close| close.send(reason));
    }
}

impl SiteSlots {
    pub(super) fn new(sites: usize) -> Self {
        Self { sites: (0..sites).map(|_| Mutex::new(SiteSlot::default())).collect() }
    }

    fn slot(&self, site: SiteId) -> std::sync::MutexGuard<'_, SiteSlot> {
        self.sites[site.0 as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection the site's slot, unless another process holds it.
    pub(super) fn enter(
        &self,
        site: SiteId,
        instance: &str,
        serial: &str,
    ) -> Result<(u64, oneshot::Receiver<&'static str>, Arc<Semaphore>), Status> {
        let mut slot = self.slot(site);
        if let Some(present) = &mut slot.present {
            if present.instance != instance {
                return Err(Status::already_exists("another process with this site's certificate is connected; stop one of the two"));
            }
            // The same process has noticed first that the old connection is gone.
            present.close("it reconnected");
        }
        slot.absence = None;
        slot.sessions += 1;
        let (session, (close, closed)) = (slot.sessions, oneshot::channel());
        slot.present = Some(Present { session, instance: instance.into(), serial: serial.into(), close: Some(close) });
        Ok((session, closed, Arc::clone(&slot.waiting)))
    }

    /// Closes a connection, unless it has ended.
    pub(super) fn close(&self, site: SiteId, session: u64, reason: &'static str) {
        if let Some(present) = self.slot(site).present.as_mut().filter(|present| present.session == session) {
            present.close(reason);
        }
    }

    pub(super) fn leave(&self, site: SiteId, session: u64) {
        let mut slot = self.slot(site);
        if slot.present.as_ref().is_some_and(|p| p.session == session) {
            slot.present = None;
        }
    }

    /// Keeps a site's report that it does not join.
    pub(super) fn set_absence(&self, site: SiteId, reason: AbsenceReason) {
        self.slot(site).absence = Some((reason, now()));
    }

    /// Why a site does not join, and when it reported that; `None` for a site that is not of the run, too.
    fn absence(&self, site: SiteId) -> Option<(AbsenceReason, Instant)> {
        self.sites.get(site.0 as usize)?.lock().unwrap_or_else(PoisonError::into_inner).absence
    }

    pub(super) fn close_revoked(&self, tls: &Mutex<Tls>, notice: &Notice) {
        let lock = || tls.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections that are made meanwhile must not wait for the disk.
        let path = lock().list_path().to_path_buf();
        let read = fs::read(path);
        let mut tls = lock();
        if let Err(error) = tls.update(read) {
            notice(&format!(
                "cannot read the list of revoked certificates: the previous one stays in force, and no site may join until it can be read: {}",
                with_causes(&error)
            ));
        }
        for slot in &self.sites {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(present) = slot.present.as_mut().filter(|p| tls.is_revoked(&p.serial)) {
                present.close("its certificate was revoked");
            }
        }
    }
}

/// The reasons that sites have given for not joining the run, for another thread to read.
#[derive(Debug, Clone)]
pub struct Absences {
    pub(super) slots: Arc<SiteSlots>,
}

impl Absences {
    /// Why a site does not join the run, if it has reported that within the last minute and has not joined since.
    pub fn reason(&self, site: SiteId) -> Option<AbsenceReason> {
        let (reason, at) = self.slots.absence(site)?;
        (now() - at < ABSENCE_VALID_FOR).then_some(reason)
    }
}
